package standing

import (
	"context"
	"errors"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Standing is a registered column, its table, and where it stands.
type Standing struct {
	lifecycle.Column
	Relation      pg.Relation
	State         lifecycle.State
	Plain, Sealed pg.Column // the columns that hold plaintext and cells, under today's names; Attnum 0: gone

	Origin     *work.Origin    // who encrypted what Plain holds, if somebody else did
	Where      *ddl.Condition  // which rows needed a cell in the newest job; nil: all
	Expression *ddl.Expression // that made the values in the newest job, if one did; then Sealed holds those
	Nulls      bool            // the active scheme seals NULL: every row needs a cell
}

// DDL is the column as package ddl takes it, without its key.
func (s Standing) DDL() ddl.Column {
	c := ddl.Column{ID: s.ID, Table: s.Relation.Table(), Source: s.Plain.Name, Target: s.Sealed.Name, Beside: s.beside(), Expression: s.Expression, Where: s.Where, Nulls: s.Nulls,
		Types: ddl.TypesOf(s.Relation.Columns...)}
	if s.Expression == nil {
		c.Form = ddl.FormOf(s.Sealed)
	}
	return c
}

// Of looks a registered column up, in a transaction of its own that reads only; a name that nothing has is a
// [*Refusal].
func Of(ctx context.Context, db *pg.DB, n Name) (s Standing, err error) {
	err = Reading(ctx, db, "30s", func(tx pg.Tx) error {
		s, err = Find(ctx, tx, n)
		return err
	})
	return s, err
}

// Find looks a registered column up; a name that nothing has is a [*Refusal].
func Find(ctx context.Context, q pg.Querier, n Name) (s Standing, err error) {
	if err := CheckInstalled(ctx, q); err != nil {
		return s, err
	}
	if s.Relation, err = Inspect(ctx, q, n.Schema, n.Table); err != nil {
		return s, err
	}
	registered, err := lifecycle.Columns(ctx, q, s.Relation.OID)
	if err != nil {
		return s, err
	}
	at := At(s.Relation, registered, n.Column)
	if at < 0 {
		return s, Lack("column", "cipherfleet status lists the columns; cipherfleet advance --to schema-added begins with a new one",
			"column %q of %s is not registered", n.Column, s.Relation.Table())
	}
	s.Column = registered[at]
	s.Plain, s.Sealed = s.Relation.ColumnAt(s.SourceNum), s.Relation.ColumnAt(s.TargetNum)
	s.State, err = lifecycle.Latest(ctx, q, s.Column.Table.String(), s.Source)
	if errors.Is(err, lifecycle.ErrImpossible) {
		err = nil // status tells; what could be folded counts
	}
	if err != nil {
		return s, err
	}
	spec, err := SpecOf(ctx, q, s.ID)
	s.Expression, s.Where, s.Origin = spec.Expression, spec.Where, spec.OriginAt(s.SourceNum)
	if from := MovedFrom(registered, s.Column); s.Origin == nil && err == nil {
		s.Origin = from
	}
	if err != nil {
		return s, err
	}
	nulls, err := SealingNulls(ctx, q, s.ID)
	s.Nulls = nulls[s.ID]
	return s, err
}

// At is the place of the column that goes by a name: the one it was registered under, else, of one that moved, that which
// its cells have taken, though they move on by now; else that of its source. -1: there is none.
func At(relation pg.Relation, registered []lifecycle.Column, name string) int {
	for _, is := range []func(lifecycle.Column) bool{
		func(c lifecycle.Column) bool { return c.Source == name },
		func(c lifecycle.Column) bool { return c.Moves() && relation.ColumnAt(c.TargetNum).Name == name },
		func(c lifecycle.Column) bool { return relation.ColumnAt(c.SourceNum).Name == name },
	} {
		if at := slices.IndexFunc(registered, is); at >= 0 {
			return at
		}
	}
	return -1
}

// PhaseWord is a phase in a sentence.
func PhaseWord(p lifecycle.Phase) string {
	if p == "" {
		return "new"
	}
	return string(p)
}

const leavesSQL = `SELECT c.oid FROM pg_catalog.pg_class c
 WHERE c.relkind = 'r' AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1)))`

// Leaves are the relations that hold a table's rows: itself, or those of its partitions that are there now.
func Leaves(ctx context.Context, q pg.Querier, relation uint32) ([]uint32, error) {
	return pg.Values[uint32](ctx, q, leavesSQL, relation)
}

// IsEQL says that the column's values are EQL's.
func (s Standing) IsEQL() bool { return s.Sealed.Base.Name == shape.EQLType }
