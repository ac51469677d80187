package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/blind"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Wanted is what a new blind index is to be.
type Wanted struct {
	Name      string // of the index, and of the column of its first generation
	Normalise string // as the manifest spells it
	Bytes     int    // of a token
	Unique    bool
	Next      bool // another generation of one that is there, with a key of its own; then the rest is as it was
	Few       bool // few different values are no reason to refuse
}

// NewPlan is a blind index to make, every precondition met when it was looked at.
type NewPlan struct {
	Table, Column string
	Definition    lifecycle.IndexDefinition
	Already       bool     // it is there, just so
	Statements    []string // that alter the table
	Warnings      []string // what whoever reviews it should know

	column column
}

// PlanNew looks a new index over before anything is changed.
func (r *Registry) PlanNew(ctx context.Context, n standing.Name, w Wanted) (p NewPlan, err error) {
	err = standing.Reading(ctx, r.DB, "30s", func(tx pg.Tx) error {
		if p.column, err = find(ctx, tx, n); err != nil {
			return err
		}
		p.Table, p.Column = p.column.Relation.Table().String(), p.column.Source
		if err := p.column.mustHaveCells(ctx, tx); err != nil {
			return err
		}
		if err := p.column.mustKeepNulls(ctx, tx); err != nil {
			return err
		}
		if err := p.define(ctx, tx, w); err != nil {
			return err
		}
		if err := p.mayBeUnique(); err != nil {
			return err
		}
		if p.Already {
			return nil
		}
		if err := p.column.mustOwn(ctx, tx); err != nil {
			return err
		}
		if err := noJob(ctx, tx, p.column); err != nil {
			return err
		}
		return p.check(ctx, tx, w)
	})
	if err == nil {
		x := lifecycle.Index{IndexDefinition: p.Definition}
		steps := p.column.steps(x, x.Token, nil)
		p.Statements = append(steps.Add().Do, steps.Capture().Do...)
	}
	return p, err
}

const mostName = 63

// define fills the definition in, and finds out whether there is one already.
func (p *NewPlan) define(ctx context.Context, q pg.Querier, w Wanted) error {
	c := p.column
	if w.Name == "" || len(w.Name) > mostName {
		return standing.Reject("name", "the column of tokens gets this name", "the name has %d bytes; accepted is 1 to %d", len(w.Name), mostName)
	}
	if strings.Contains(w.Name, "$") { // it stands in the body of a function
		return standing.Reject("name", "name the index otherwise", "the name holds a dollar sign")
	}
	var newest lifecycle.Index
	generation := 0
	for _, x := range c.Rows {
		if x.Name == w.Name {
			if generation = x.Generation; x.State != lifecycle.IndexDropped {
				newest = x
			}
		}
	}
	if w.Next {
		if newest.ID == 0 {
			return standing.Lack("index", "leave --next out to make its first generation", "%s has no blind index %q", c.name(), w.Name)
		}
		p.Definition = newest.IndexDefinition
		if newest.State == lifecycle.IndexPrepared {
			return nil // goes on with it
		}
		if live := p.generations(w.Name); len(live) > 1 {
			return standing.Refuse("index", fmt.Sprintf("%s --generation %d takes the old one away, once the new one is ready", c.command("drop", w.Name), live[0]),
				"blind index %q of %s has %d generations already", w.Name, c.name(), len(live))
		}
		p.Definition.Generation = generation + 1
		p.Definition.Token = tokenName(w.Name, generation+1)
		return nil
	}
	normaliser, err := c.normaliser(ctx, q, w.Normalise)
	if err != nil {
		return err
	}
	p.Definition = lifecycle.IndexDefinition{Column: c.ID, Name: w.Name, Generation: generation + 1, Token: tokenName(w.Name, generation+1), Normaliser: normaliser, Bytes: w.Bytes, Unique: w.Unique}
	if newest.ID == 0 {
		return nil
	}
	same := p.Definition
	same.Generation, same.Token = newest.Generation, newest.Token
	if same != newest.IndexDefinition {
		return otherwise(c.name(), newest.IndexDefinition)
	}
	p.Definition, p.Already = same, newest.State != lifecycle.IndexPrepared
	return nil
}

// otherwise refuses an index whose name another one has, and says what that one is like.
func otherwise(of standing.Name, have lifecycle.IndexDefinition) error {
	unique := ""
	if have.Unique {
		unique = ", unique"
	}
	return standing.Refuse("index", (&blind.ConflictError{}).Hint(), "blind index %q of %s, generation %d, is another one already (%s, %d bytes%s, in column %q)",
		have.Name, of, have.Generation, spelled(have.Normaliser), have.Bytes, unique, have.Token)
}

// generations are those of a name that are not dropped, the oldest first.
func (p *NewPlan) generations(name string) (list []int) {
	for _, x := range p.column.live() {
		if x.Name == name {
			list = append(list, x.Generation)
		}
	}
	return list
}

func tokenName(name string, generation int) string {
	if generation == 1 {
		return name
	}
	return fmt.Sprintf("%s_%d", name, generation)
}

// baseSQL is a type by its declared name, domains taken off: the column that had it may be gone.
const baseSQL = `WITH RECURSIVE chain AS (
  SELECT t.oid, t.typname, t.typtype, t.typcategory, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = pg_catalog.to_regtype($1)
  UNION ALL SELECT t.oid, t.typname, t.typtype, t.typcategory, t.typbasetype FROM chain c JOIN pg_catalog.pg_type t ON t.oid = c.typbasetype WHERE c.typtype = 'd')
SELECT c.oid, c.typname::text, c.typtype::text, c.typcategory::text FROM chain c WHERE c.typtype <> 'd'`

// normaliser is the one of that name for the column's values.
func (c column) normaliser(ctx context.Context, q pg.Querier, name string) (cell.Normaliser, error) {
	theirs, known := spellings()[cmp.Or(name, "exact")]
	if !known {
		return 0, standing.Reject("normalise", "exact keeps to what SQL calls equal", "normalise was %.40q; accepted is exact, lower-trim, digits or nfc", name)
	}
	info := keyspace.TypeInfo
	base := c.Plain.Base
	if c.Plain.Attnum == 0 {
		base = pg.Type{}
		err := q.QueryRow(ctx, baseSQL, c.Type).Scan(&base.OID, &base.Name, &base.Kind, &base.Category)
		if errors.Is(err, pgx.ErrNoRows) {
			return 0, standing.Refuse("column", "make the type again", "the type %s of %s is gone", c.Type, c.name())
		}
		if err != nil {
			return 0, fmt.Errorf("read type %s: %w", c.Type, err)
		}
	}
	n, err := cell.NormaliserFor(info(base), theirs)
	if err != nil {
		return 0, standing.Refuse("normalise", "docs/search.md says which normaliser fits which type", "%s cannot be indexed so: %s", c.name(), strings.ReplaceAll(err.Error(), "lower+trim", "lower-trim"))
	}
	return n, nil
}

const leastUnique = cell.BlindSize

// check refuses what would be no index to search by.
func (p *NewPlan) check(ctx context.Context, q pg.Querier, w Wanted) error {
	d, c := p.Definition, p.column
	switch {
	case d.Unique && d.Bytes < leastUnique:
		return standing.Reject("bytes", "shorter tokens are shared by different values by chance: two rows could not both be stored", "a unique index needs tokens of at least %d bytes, not %d", leastUnique, d.Bytes)
	case d.Bytes < 1 || d.Bytes > 32:
		return standing.Reject("bytes", "16 tell every two values apart", "bytes was %d; accepted is 1 to 32", d.Bytes)
	}
	if len(d.Token) > mostName {
		return standing.Reject("name", "make an index of a shorter name, and drop this one when that is ready", "the column of tokens of generation %d would have a name of %d bytes; Postgres takes %d", d.Generation, len(d.Token), mostName)
	}
	if _, taken := c.Relation.Column(d.Token); taken {
		return standing.Refuse("name", "name the index otherwise", "%s has a column %q already", c.Relation.Table(), d.Token)
	}
	for _, x := range c.live() {
		if x.Token == d.Token && x.Name != d.Name {
			return standing.Refuse("name", "name the index otherwise", "column %q belongs to blind index %q", d.Token, x.Name)
		}
	}
	if d.Bytes < leastUnique {
		p.Warnings = append(p.Warnings, fmt.Sprintf("tokens of %d bytes are shared by different values: who looks up has to compare what he finds", d.Bytes))
	}
	few, err := c.few(ctx, q)
	if err != nil {
		return err
	}
	if few == "" {
		return nil
	}
	if !w.Few {
		return standing.Refuse("column", "equal values have equal tokens, so who sees the tokens and knows how often each value occurs knows the values; if that may be, say --few-values, or few_values: true in the manifest",
			"%s has few different values: %s", c.name(), few)
	}
	p.Warnings = append(p.Warnings, fmt.Sprintf("%s has few different values (%s): how often each token occurs tells which value it is of", c.name(), few))
	return nil
}

// New makes the index: its key is committed, read back and proven, and then its column, the check on it and the triggers
// that keep its tokens right come with its state in one transaction. Killed in between, the same call goes on.
func (r *Registry) New(ctx context.Context, p NewPlan) (Index, error) {
	x, err := r.registrar().Prepare(ctx, p.Definition)
	if err != nil {
		return Index{}, err
	}
	if x.State == lifecycle.IndexPrepared {
		err = standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
			if err := p.column.hold(ctx, tx); err != nil {
				return err
			}
			if now, err := p.column.now(ctx, tx, x); err != nil || now != lifecycle.IndexPrepared {
				return err // somebody else was quicker
			}
			if err := standing.LockAlone(ctx, tx, p.column.Relation.Table()); err != nil {
				return err
			}
			steps := p.column.steps(x, x.Token, nil)
			if err := standing.Each(ctx, tx, append(steps.Add().Do, steps.Capture().Do...)); err != nil {
				return fmt.Errorf("add the column of tokens: %w", err)
			}
			return r.registrar().Move(ctx, tx, x.ID, lifecycle.IndexFilling)
		})
		if err != nil {
			return Index{}, standing.Settled(p.column.Standing, err)
		}
	}
	return r.Show(ctx, p.column.name(), x.Name, x.Generation, false)
}

// Wished is the index of a plan, for people and programs.
func Wished(p NewPlan) Index {
	d := p.Definition
	return Index{Name: d.Name, Generation: d.Generation, State: lifecycle.IndexPrepared, Token: d.Token, Normalise: spelled(d.Normaliser), Bytes: d.Bytes, Unique: d.Unique, Built: BuiltMissing}
}
