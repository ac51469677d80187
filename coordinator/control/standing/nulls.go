package standing

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Rewatched are the statements that have writes noticed as another scheme wants it, by a column whose capture was made for
// the policy of the one before; none where nothing has to be made. Steps is the column with its key, as [Standing.DDL]
// makes it. What holds the uncovered rows by the other policy goes.
func (s Standing) Rewatched(steps ddl.Column, nulls bool) (statements []string) {
	after, before := s, s
	after.Nulls, before.Nulls, steps.Nulls = nulls, !nulls, nulls
	if after.Watched() || !before.Watched() { // where nobody watches, status says so
		return nil
	}
	statements = steps.Capture().Do
	if IsStrict(s.Relation, s.ID) {
		statements = append(statements, steps.Strict().Do...)
	}
	for _, leaf := range s.Relation.Leaves {
		statements = append(statements, "DROP INDEX IF EXISTS "+pg.Ident(leaf.Schema, steps.UncoveredIndexName(leaf.Named)))
	}
	return statements
}

// CheckNulls refuses a rotation that cannot do with the column's NULLs what its scheme says.
func (s Standing) CheckNulls(ctx context.Context, q pg.Querier, schemes []lifecycle.SchemeRow, to cell.Nulls) error {
	err := cmp.Or(s.CheckEmptied(schemes, to), s.CheckNullable(to))
	if err != nil || to == cell.KeepNulls || s.Nulls {
		return err
	}
	if err := s.CheckUnshredded(ctx, q, "scheme"); err != nil { // a tenant may have been since the scheme was made
		return err
	}
	return s.CheckUnindexed(ctx, q, "scheme") // which may have been made at the very same time
}

// CheckUnindexed refuses to seal the NULLs of a column that has a blind index: missing tokens would tell them.
func (s Standing) CheckUnindexed(ctx context.Context, q pg.Querier, field string) error {
	indexes, err := lifecycle.Indexes(ctx, q, s.ID)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(indexes, func(x lifecycle.Index) bool { return x.State != lifecycle.IndexDropped })
	if at < 0 {
		return nil
	}
	name := Name{Schema: s.Relation.Schema, Table: s.Relation.Name, Column: s.Source}
	return Refuse(field, "`"+name.Command("index drop")+" "+indexes[at].Name+"` first, or leave NULL as NULL, with nulls keep",
		"column %q of %s has blind index %q: rows without a token are those of NULL, whatever their cells look like", s.Source, s.Relation.Table(), indexes[at].Name)
}

// CheckEmptied refuses a column of cells that is NOT NULL where cells that hold NULL are going to be taken away.
func (s Standing) CheckEmptied(schemes []lifecycle.SchemeRow, to cell.Nulls) error {
	seals := slices.ContainsFunc(schemes, func(s lifecycle.SchemeRow) bool {
		return s.SealsNulls() && (s.State == lifecycle.SchemeReadable || s.State == lifecycle.SchemeActive)
	})
	if to == cell.SealNulls || !seals || !s.Sealed.NotNull {
		return nil
	}
	return Refuse("column", fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", s.Relation.Table().SQL(), pg.Ident(s.Sealed.Name)),
		"column %q of %s is NOT NULL: cells in it that hold NULL cannot be taken away", s.Sealed.Name, s.Relation.Table())
}

const shreddedSQL = `SELECT EXISTS (SELECT FROM cipherfleet.deks d JOIN cipherfleet.schemes s ON s.column_id = d.column_id AND s.number = d.scheme
 WHERE d.column_id = $1 AND d.tenant IS NOT NULL AND d.wrapped IS NULL AND s.state <> 'destroyed')`

// CheckUnshredded refuses to seal the NULLs of a column, some of which may be what a shredding has left.
func (s Standing) CheckUnshredded(ctx context.Context, q pg.Querier, field string) error {
	shredded := false
	if err := q.QueryRow(ctx, shreddedSQL, s.ID).Scan(&shredded); err != nil {
		return fmt.Errorf("look for shredded tenants: %w", err)
	}
	if !shredded {
		return nil
	}
	return Refuse(field, "rotate to a scheme with nulls keep, retire and destroy the one that tenants were shredded under, and then to one that seals NULL",
		"tenants of column %q of %s were shredded: what was made NULL of theirs would be sealed as if it were a value", s.Source, s.Relation.Table())
}

// CheckNullable refuses to have NULL sealed from now on where the column that applications read is NOT NULL: a cell is none,
// so the cell of a NULL would be let in.
func (s Standing) CheckNullable(to cell.Nulls) error {
	read := s.Plain
	if s.State.Phase == lifecycle.PhaseCutOver || s.State.Phase == lifecycle.PhaseDropped {
		read = s.Sealed
	}
	if s.Nulls {
		return nil
	}
	return CheckNullable(to, s.Relation.Table(), read)
}

// CheckNullable is the same of a column that nothing is sealed of yet.
func CheckNullable(to cell.Nulls, table pg.Table, read pg.Column) error {
	if to == cell.KeepNulls || !read.NotNull {
		return nil
	}
	return Refuse("nulls", fmt.Sprintf("leave it with nulls keep; or, if NULL may come in, ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", table.SQL(), pg.Ident(read.Name)),
		"column %q of %s is NOT NULL: there is no NULL to seal, and one that is sealed would be let in", read.Name, table)
}

// CheckRequired refuses to have NOT NULL pass to cells that may be of NULL. Of a column that moved it says there what it says
// here: that each row has a cell.
func (s Standing) CheckRequired(places []CutoverPlace) error {
	at := slices.IndexFunc(places, func(p CutoverPlace) bool { return p.NotNull })
	if at < 0 || !s.Nulls || s.Origin.Own() {
		return nil
	}
	table := pg.Table{Schema: places[at].Schema, Name: places[at].Name}
	return Refuse("column", fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL, or cipherfleet scheme new --nulls keep, and rotate to it", table.SQL(), pg.Ident(s.Plain.Name)),
		"column %q of %s is NOT NULL, and its scheme seals NULL: from the cutover on the cell of a NULL would be let in", s.Plain.Name, table)
}

const sealingSQL = `SELECT s.column_id FROM cipherfleet.schemes s WHERE s.state = 'active' AND s.nulls = $2 AND s.column_id = ANY ($1::bigint[])`

// SealingNulls are those columns, by their ids, whose active scheme seals NULL: there a row without a cell is uncovered,
// whatever its source.
func SealingNulls(ctx context.Context, q pg.Querier, columns ...uint32) (map[uint32]bool, error) {
	ids := make([]int64, len(columns))
	for i, id := range columns {
		ids[i] = int64(id)
	}
	found, err := pg.Values[uint32](ctx, q, sealingSQL, ids, cell.SealNulls)
	if err != nil {
		return nil, fmt.Errorf("read what becomes of NULL: %w", err)
	}
	seal := map[uint32]bool{}
	for _, id := range found {
		seal[id] = true
	}
	return seal, nil
}
