package standing

import (
	"context"
	"errors"
	"slices"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// MovedFrom is the origin of a column whose source holds the cells of another registered one: they move into its own. Nil
// of any other column, and once the old cells are gone.
func MovedFrom(registered []lifecycle.Column, c lifecycle.Column) *work.Origin {
	at := slices.IndexFunc(registered, c.MovesFrom)
	if at < 0 {
		return nil
	}
	return &work.Origin{Origin: messages.Origin{Format: messages.FormatOwn}, Column: registered[at].ID}
}

// MovedInto is the column that another one's cells move into; false if they stay. One whose target was taken away again is
// none.
func MovedInto(relation pg.Relation, registered []lifecycle.Column, c lifecycle.Column) (lifecycle.Column, bool) {
	at := slices.IndexFunc(registered, func(r lifecycle.Column) bool {
		return r.MovesFrom(c) && relation.ColumnAt(r.TargetNum).Attnum != 0
	})
	if at < 0 {
		return lifecycle.Column{}, false
	}
	return registered[at], true
}

// OriginBack is the origin of a column whose cells are to move back into the old ones; nil of any other. Keyless, it is
// nil also where each tenant has keys of its own: a job asks for those.
func (s Standing) OriginBack(ctx context.Context, q pg.Querier, keyless bool) (*work.Origin, error) {
	if !s.Origin.Own() {
		return nil, nil
	}
	all, err := lifecycle.Schemes(ctx, q, s.Origin.Column)
	if err != nil {
		return nil, err
	}
	back := *s.Origin
	for _, scheme := range all {
		switch {
		case scheme.State == lifecycle.SchemeActive && scheme.Tenant != "" && keyless:
			return nil, nil
		case scheme.State == lifecycle.SchemeActive:
			back.Scheme = scheme.Number
		}
	}
	return &back, nil
}

// Kin are the columns whose cells are of the same values, because they move into this one, or it into them.
func (s Standing) Kin(ctx context.Context, q pg.Querier) (kin []lifecycle.Column, err error) {
	registered, err := lifecycle.Columns(ctx, q, s.Relid)
	if err != nil {
		return nil, err
	}
	if into, moves := MovedInto(s.Relation, registered, s.Column); moves {
		kin = append(kin, into)
	}
	for _, id := range s.Origin.Of() {
		from, err := lifecycle.ColumnByID(ctx, q, id)
		if err != nil {
			return nil, err
		}
		kin = append(kin, from)
	}
	return kin, nil
}

// CheckStays refuses to change what becomes of a column's cells while they move into another one, or have.
func (s Standing) CheckStays(ctx context.Context, q pg.Querier) error {
	registered, err := lifecycle.Columns(ctx, q, s.Relid)
	if err != nil {
		return err
	}
	into, moves := MovedInto(s.Relation, registered, s.Column)
	if !moves {
		return nil
	}
	state, err := lifecycle.Latest(ctx, q, into.Table.String(), into.Source)
	if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
		return err
	}
	n := Name{Schema: s.Relation.Schema, Table: s.Relation.Name, Column: into.Source}
	if state.Phase == lifecycle.PhaseCutOver {
		return Refuse("column", n.Command("drop")+" takes the old cells away; name the column "+n.Column+" for the new ones", "the cells of %s.%s have moved into %s", s.Relation.Table(), s.Source, n)
	}
	return Refuse("column", "let the move come to its end, with cutover and drop; or "+n.Command("rollback")+" --to schema-added --drop-target takes it back",
		"the cells of %s.%s are moving into %s", s.Relation.Table(), s.Source, n)
}

// CheckLeft refuses to cut a column over that another one's cells moved into, while that one has something that would be
// left behind: its plaintext, or a blind index.
func (s Standing) CheckLeft(ctx context.Context, q pg.Querier) error {
	if !s.Origin.Own() {
		return nil
	}
	from, err := lifecycle.ColumnByID(ctx, q, s.Origin.Column)
	if err != nil {
		return err
	}
	if plain := s.Relation.ColumnAt(from.SourceNum); plain.Attnum != 0 && from.SourceNum != from.TargetNum {
		n := Name{Schema: s.Relation.Schema, Table: s.Relation.Name, Column: from.Source}
		return Refuse("column", n.Command("drop")+" comes first", "nothing would keep column %q, from which the cells of %s were made, up to date", plain.Name, n)
	}
	return CheckUnindexed(ctx, q, "column", from)
}

const goneColumnSQL = `SELECT c.id FROM cipherfleet.columns c WHERE c.retired_at IS NOT NULL AND c.schema_name = $1 AND c.table_name = $2 AND c.source = $3
 AND c.relid = $4 AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.relid AND a.attnum = c.target_attnum AND NOT a.attisdropped) ORDER BY c.id DESC LIMIT 1`

// FindGone looks up the newest column that went by a name, is in nobody's care any more, and whose cells are gone: its
// schemes and keys are still in the registry. A name that nothing has is a [*Refusal].
func FindGone(ctx context.Context, q pg.Querier, n Name) (s Standing, err error) {
	if err := CheckInstalled(ctx, q); err != nil {
		return s, err
	}
	if s.Relation, err = Inspect(ctx, q, n.Schema, n.Table); err != nil {
		return s, err
	}
	ids, err := pg.Values[uint32](ctx, q, goneColumnSQL, n.Schema, n.Table, n.Column, s.Relation.OID)
	if err != nil {
		return s, err
	}
	if len(ids) == 0 {
		return s, Lack("column", "cipherfleet key ls lists every key there is, with its column", "no column %q of %s has moved into another one and is gone", n.Column, s.Relation.Table())
	}
	s.Column, err = lifecycle.ColumnByID(ctx, q, ids[0])
	return s, err
}

// RetireMoved takes columns out of the registry's care whose cells are gone because they have moved into this one, in the
// transaction that saw them go.
func RetireMoved(ctx context.Context, tx pg.Tx, c lifecycle.Column) error {
	registered, err := lifecycle.Columns(ctx, tx, c.Relid)
	if err != nil {
		return err
	}
	origin := MovedFrom(registered, c)
	if origin == nil {
		return nil
	}
	return lifecycle.Registrar{Reason: "its cells have moved into " + c.Source}.RetireGone(ctx, tx, origin.Column)
}

// CheckUnindexed refuses to move cells that blind indexes are made of: a token belongs to the column that it was made for.
func CheckUnindexed(ctx context.Context, q pg.Querier, field string, c lifecycle.Column) error {
	return checkUnindexed(ctx, q, field, c, "; once the cells have moved, cipherfleet index new and index build make it of the new ones")
}

// CheckUnneeded refuses to drop cells that blind indexes are made of.
func CheckUnneeded(ctx context.Context, q pg.Querier, field string, c lifecycle.Column) error {
	return checkUnindexed(ctx, q, field, c, "; then ask for the same again")
}

func checkUnindexed(ctx context.Context, q pg.Querier, field string, c lifecycle.Column, then string) error {
	known, err := lifecycle.KnownIndexes(ctx, q)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(known, func(x lifecycle.Index) bool { return x.Column == c.ID && x.State != lifecycle.IndexDropped })
	if at < 0 {
		return nil
	}
	n := Name{Schema: c.Table.Schema, Table: c.Table.Name, Column: c.Source}
	return Refuse(field, n.Command("index drop")+" "+Quoted(known[at].Name)+" first"+then,
		"blind index %q is made of the cells of %s", known[at].Name, n)
}
