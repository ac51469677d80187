// Package lineage tells which of several columns an application means while cells move between them.
//
// Words: cells of one column *move* into another one, whose source is the first one's target. Both are registered until the
// old cells are dropped, the old one is retired then. A *line* is all columns whose cells have been, or are to be, the
// values that an application knows by one name; beside those that are read, cells of its *twin* are written, too: of the
// one that is going to be read, or that was until its cutover, so that there is a way back and whoever is behind reads the
// present values.
package lineage

import (
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Line is where the values of a column stand.
type Line struct {
	Read lifecycle.Column  // whose cells are the truth
	Twin *lifecycle.Column // whose cells are written beside those; nil: nobody's
	Kin  []uint32          // ids of the others: their cells are of the same values
}

// Of is the line of a registered column of a table. One whose cells move nowhere is alone.
func Of(relation pg.Relation, registered []lifecycle.Column, latest map[uint32]lifecycle.Standing, of lifecycle.Column) (l Line) {
	line := []lifecycle.Column{of}
	for at := before(registered, of); at >= 0 && len(line) <= len(registered); at = before(registered, line[0]) {
		line = slices.Insert(line, 0, registered[at])
	}
	for at := behind(relation, registered, of); at >= 0 && len(line) <= len(registered); at = behind(relation, registered, line[len(line)-1]) {
		line = append(line, registered[at])
	}
	l.Read = line[0]
	for i, c := range line[1:] {
		switch latest[c.ID].State.Phase {
		case lifecycle.PhaseCutOver, lifecycle.PhaseDropped:
			l.Read, l.Twin = c, &line[i]
		case lifecycle.PhaseDualWriting, lifecycle.PhaseBackfilling, lifecycle.PhaseBackfilled:
			l.Twin = &line[i+1]
		}
	}
	for _, c := range line {
		if c.ID != l.Read.ID {
			l.Kin = append(l.Kin, c.ID)
		}
	}
	return l
}

// before is the place of the column whose cells stand in a column's source.
func before(registered []lifecycle.Column, c lifecycle.Column) int {
	return slices.IndexFunc(registered, c.MovesFrom)
}

// behind is the place of the column that a column's cells move into.
func behind(relation pg.Relation, registered []lifecycle.Column, c lifecycle.Column) int {
	return slices.IndexFunc(registered, func(r lifecycle.Column) bool {
		return r.MovesFrom(c) && relation.ColumnAt(r.TargetNum).Attnum != 0
	})
}

const aliasSQL = `WITH RECURSIVE line AS (
 SELECT c.id, c.target_attnum, c.retired_at FROM cipherfleet.columns c WHERE c.relid = $1 AND c.source = $2 AND c.retired_at IS NOT NULL
 UNION SELECT n.id, n.target_attnum, n.retired_at FROM line l JOIN cipherfleet.columns n ON n.relid = $1 AND n.source_attnum = l.target_attnum AND n.id > l.id)
SELECT l.id FROM line l WHERE l.retired_at IS NULL ORDER BY l.id DESC LIMIT 1`

// Alias is the registered column that has the values of one that was retired under a name, because its cells have moved;
// false if there is none.
func Alias(ctx context.Context, q pg.Querier, relation uint32, registered []lifecycle.Column, name string) (lifecycle.Column, bool, error) {
	ids, err := pg.Values[uint32](ctx, q, aliasSQL, relation, name)
	if err != nil || len(ids) == 0 {
		return lifecycle.Column{}, false, wrap(name, err)
	}
	at := slices.IndexFunc(registered, func(c lifecycle.Column) bool { return c.ID == ids[0] })
	if at < 0 {
		return lifecycle.Column{}, false, nil
	}
	return registered[at], true, nil
}

func wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("find where the cells of %s have moved: %w", name, err)
}
