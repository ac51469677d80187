package scheme

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Registry changes schemes and keys. It needs no coordinator, and does not disturb one.
type Registry struct {
	DB     *pg.DB
	KEK    cell.KEK // of verbs that make or prove keys
	Actor  string   // who asked; empty: the database role
	Reason string   // why, for the log
	Gone   bool     // columns are those whose cells are gone since they moved into another one, by their names of then
}

func (r *Registry) registrar() lifecycle.Registrar {
	return lifecycle.Registrar{DB: r.DB, KEK: r.KEK, Actor: r.Actor, Reason: r.Reason}
}

// column is a registered column with all its schemes.
type column struct {
	standing.Standing
	Rows []lifecycle.SchemeRow
	gone bool // it is in nobody's care any more, and has no cells

	others []lifecycle.Column // that are registered of the table
}

// find looks a column up, and what its schemes are.
func (r *Registry) find(ctx context.Context, n standing.Name) (c column, err error) {
	c.gone = r.Gone
	err = standing.Reading(ctx, r.DB, "30s", func(tx pg.Tx) error {
		look := standing.Find
		if r.Gone {
			look = standing.FindGone
		}
		if c.Standing, err = look(ctx, tx, n); err != nil {
			return err
		}
		if c.Rows, err = lifecycle.Schemes(ctx, tx, c.ID); err != nil {
			return err
		}
		if c.others, err = lifecycle.Columns(ctx, tx, c.Relid); err != nil {
			return err
		}
		e, err := standing.EncrypterOf(ctx, tx, c.ID)
		if err == nil && e.Subject != "" {
			err = standing.Refuse("column", "let that encrypter look after its keys", "the values of %s are made by the encrypter on %s: they have no scheme of ours", n, e.Subject)
		}
		return err
	})
	return c, err
}

// numbered finds one of its schemes.
func (c column) numbered(number uint16) (lifecycle.SchemeRow, error) {
	at := slices.IndexFunc(c.Rows, func(s lifecycle.SchemeRow) bool { return s.Number == number })
	if at < 0 {
		return lifecycle.SchemeRow{}, &lifecycle.StateError{Column: c.ID, Scheme: number, Advice: c.command("scheme ls") + " lists the schemes there are"}
	}
	return c.Rows[at], nil
}

func (c column) command(verb string) string {
	return standing.Name{Schema: c.Relation.Schema, Table: c.Relation.Name, Column: c.Source}.Command(verb)
}

// steps are the SQL of the column, under today's names.
func (c column) steps() ddl.Column {
	return ddl.Column{ID: c.ID, Table: c.Relation.Table(), Source: c.Source, Target: c.Sealed.Name, Form: ddl.FormOf(c.Sealed)}
}

// codec is what values of the column become before they are sealed: as in its newest scheme, or else by its type.
func (c column) codec() (cell.Codec, error) {
	if len(c.Rows) > 0 {
		return c.Rows[len(c.Rows)-1].Codec, nil
	}
	codec, err := cell.CodecFor(keyspace.TypeInfo(c.Plain.Base))
	if err != nil {
		return 0, standing.Refuse("column", "keep this column as it is, or change its type first", "column %q cannot be sealed: %v", c.Source, err)
	}
	return codec, nil
}

// Scheme is one scheme of a column, for people and programs.
type Scheme struct {
	Number    uint16                `json:"number"`
	State     lifecycle.SchemeState `json:"state"` // "unknown" of cells whose number the registry does not know
	Suite     string                `json:"suite"` // as the manifest spells it
	Codec     string                `json:"codec"`
	Binding   string                `json:"binding"`           // pk, none or columns
	Columns   []string              `json:"columns,omitempty"` // that it is bound to with columns, by their present names; #7 is one that is gone
	Padding   int                   `json:"padding"`
	Nulls     string                `json:"nulls"`  // keep or seal
	Tenant    string                `json:"tenant"` // column that chooses the key; "": one key for all rows
	Retain    string                `json:"retain"` // as time.Duration writes it
	Key       uint32                `json:"key"`    // id of the key of all rows, or of those of no tenant
	Keys      int                   `json:"keys"`   // that are not destroyed
	Revision  int64                 `json:"revision"`
	Created   time.Time             `json:"created"`
	Retired   *time.Time            `json:"retired"`
	Until     *time.Time            `json:"retained_until"` // when a retired one may be destroyed
	Destroyed *time.Time            `json:"destroyed"`
	Fenced    bool                  `json:"fenced"` // Postgres has proved that no cell of it is left, and refuses any
	Cells     *int64                `json:"cells"`  // null: not counted
}

// Unknown is the state of a scheme that cells carry and the registry does not know.
const Unknown lifecycle.SchemeState = "unknown"

// Described is a scheme for people and programs, without what only the table tells.
func (c column) Described(s lifecycle.SchemeRow) Scheme {
	d := Scheme{Number: s.Number, State: s.State, Suite: preflight.SuiteName(s.Suite), Codec: s.Codec.String(), Binding: s.Binding(), Padding: s.Padding, Nulls: s.Nulls.String(),
		Tenant: s.Tenant, Retain: s.Retain.String(), Key: s.KeyID, Keys: s.Keys, Revision: s.Revision, Created: s.Created}
	if s.Columns != "" {
		d.Columns = bound.Names(c.Relation, s.Columns)
	}
	if !s.Retired.IsZero() {
		until := s.Retired.Add(s.Retain)
		d.Retired, d.Until = &s.Retired, &until
	}
	if !s.Destroyed.IsZero() {
		d.Destroyed = &s.Destroyed
	}
	return d
}

// retired are the numbers that no cell may carry any more, with more of them.
func retired(rows []lifecycle.SchemeRow, more ...uint16) []uint16 {
	for _, s := range rows {
		if s.State == lifecycle.SchemeRetired || s.State == lifecycle.SchemeDestroyed {
			more = append(more, s.Number)
		}
	}
	slices.Sort(more)
	return slices.Compact(more)
}

func schemeWord(number uint16) string { return fmt.Sprintf("scheme %d", number) }
