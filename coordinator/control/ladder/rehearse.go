package ladder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Rehearsal is a cutover and its rollback, done to an empty copy of a table that nobody else ever saw.
type Rehearsal struct {
	V      int              `json:"v"`
	Table  string           `json:"table"`
	Column string           `json:"column"`
	Stages []RehearsedStage `json:"stages"`
	Same   bool             `json:"same"` // the copy ended as it began
}

// RehearsedStage is what is done under one lock, or under none but the shortest.
type RehearsedStage struct {
	Name       string               `json:"name"`
	Locked     bool                 `json:"locked"` // the table is locked for everybody meanwhile
	Took       float64              `json:"took_ms"`
	Statements []RehearsedStatement `json:"statements"`
}

// RehearsedStatement is one statement of it.
type RehearsedStatement struct {
	SQL  string  `json:"sql"`
	Took float64 `json:"took_ms"`
}

const (
	rehearsalSchema = "cipherfleet_rehearsal"
	rehearsalID     = 1<<32 - 1 // no column is registered under it: the copy's triggers and constraints are nobody's else
)

// errRehearsed takes everything back that a rehearsal did.
var errRehearsed = errors.New("it was a rehearsal")

// Rehearse does a cutover and its rollback to a copy of the column's table: its columns, defaults, constraints and
// indexes, none of its rows, and without partitions. All of it is one transaction that is taken back at its end, so
// that nothing is left whatever happens. No statement under the lock reads a row: an empty copy takes as long.
func (l *Ladder) Rehearse(ctx context.Context, n standing.Name) (Rehearsal, error) {
	var r rehearsal
	err := standing.Patiently(ctx, l.DB, func(tx pg.Tx) error {
		s, err := standing.Find(ctx, tx, n)
		if err != nil {
			return err
		}
		if s.State.Phase == lifecycle.PhaseDropped || s.Plain.Attnum == 0 || s.Sealed.Attnum == 0 {
			return standing.Refuse("column", "a rehearsal needs both columns", "%s has no plaintext or no cells", s.Relation.Table().String()+"."+s.Source)
		}
		if s.Expression != nil {
			return standing.Refuse("column", "cipherfleet cutover --dry-run says what would be done", "an expression makes %q: only a column that is encrypted is rehearsed", s.Sealed.Name)
		}
		r = rehearsal{tx: tx, Rehearsal: Rehearsal{V: messages.Version, Table: s.Relation.Table().String(), Column: s.Source}}
		if err := r.play(ctx, s); err != nil {
			return err
		}
		return errRehearsed
	})
	if errors.Is(err, errRehearsed) {
		return r.Rehearsal, nil
	}
	if pg.ClassOf(err) == pg.ClassDenied {
		return Rehearsal{}, standing.Deny("table", "a rehearsal makes a schema of its own: GRANT CREATE ON DATABASE, or rehearse as the owner",
			"rehearsing on a copy of %s is not allowed: %v", r.Table, err)
	}
	return Rehearsal{}, err
}

// rehearsal is one at work.
type rehearsal struct {
	Rehearsal
	tx pg.Tx
}

func (r *rehearsal) play(ctx context.Context, s standing.Standing) error {
	c, scratch, err := r.stage(ctx, s)
	if err != nil {
		return err
	}
	for _, step := range []ddl.Step{c.Check(), c.Validate(), c.Capture()} {
		if err := run(ctx, r.tx, step); err != nil {
			return fmt.Errorf("prepare the copy: %w", err)
		}
	}
	before, err := r.look(ctx, scratch.Relation.OID)
	if err != nil {
		return err
	}
	detail := standing.Cutover{Strategy: standing.StrategySwap, PlainName: c.Source + "_plaintext", SealedName: c.Source, PlainWas: c.Source, SealedWas: c.Target}
	if detail.Places, err = placesOf(ctx, r.tx, scratch); err != nil {
		return err
	}
	p := RollbackPlan{Standing: scratch, detail: detail, column: c}
	p.column.Source, p.column.Target = detail.PlainName, detail.SealedName
	lock := "LOCK TABLE " + c.Table.SQL() + " IN ACCESS EXCLUSIVE MODE"
	for _, stage := range []struct {
		name   string
		locked bool
		do     []string
	}{
		{"cutover", true, append([]string{lock}, detail.Swap(c).Step().Do...)},
		{"after the cutover", false, r.require(detail, detail.SealedName)},
		{"rollback", true, append([]string{lock}, p.back(detail.Places)...)},
		{"after the rollback", false, r.require(detail, detail.PlainWas)},
	} {
		if err := r.do(ctx, stage.name, stage.locked, stage.do); err != nil {
			return err
		}
	}
	if err := undo(ctx, r.tx, p.column.Bare(false)); err != nil { // what a rollback leaves on purpose
		return err
	}
	after, err := r.look(ctx, scratch.Relation.OID)
	r.Same = slices.Equal(before, after)
	return err
}

// stage makes the copy, as the table was before any cutover.
func (r *rehearsal) stage(ctx context.Context, s standing.Standing) (ddl.Column, standing.Standing, error) {
	c, err := Steps(ctx, r.tx, s)
	if err != nil {
		return c, s, err
	}
	scratch := pg.Table{Schema: rehearsalSchema, Name: s.Relation.Name}
	statements := []string{
		"CREATE SCHEMA " + pg.Ident(rehearsalSchema),
		fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL)", scratch.SQL(), s.Relation.Table().SQL()),
	}
	for _, name := range []string{ddl.CheckName(s.ID), ddl.CoverageName(s.ID), ddl.PresentName(s.ID), ddl.BareName(s.ID)} {
		statements = append(statements, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", scratch.SQL(), pg.Ident(name)))
	}
	if s.State.Phase == lifecycle.PhaseCutOver {
		detail, err := standing.LastCutover(ctx, r.tx, s.Column)
		if err != nil {
			return c, s, err
		}
		if detail.Strategy == standing.StrategySwap && s.Plain.Name == detail.PlainName && s.Sealed.Name == detail.SealedName {
			statements = append(statements,
				fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", scratch.SQL(), pg.Ident(detail.SealedName), pg.Ident(detail.SealedWas)),
				fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", scratch.SQL(), pg.Ident(detail.PlainName), pg.Ident(detail.PlainWas)))
			c.Source, c.Target = detail.PlainWas, detail.SealedWas
		}
	}
	statements = append(statements, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", scratch.SQL(), pg.Ident(c.Target)))
	if err := standing.Each(ctx, r.tx, statements); err != nil {
		return c, s, fmt.Errorf("copy %s without its rows: %w", s.Relation.Table(), err)
	}
	c.ID, c.Table = rehearsalID, scratch
	copied := standing.Standing{Relation: pg.Relation{}, Plain: s.Plain, Sealed: s.Sealed}
	copied.ID, copied.Plain.Name, copied.Sealed.Name = rehearsalID, c.Source, c.Target
	copied.Relation.Schema, copied.Relation.Name = scratch.Schema, scratch.Name
	err = r.tx.QueryRow(ctx, `SELECT $1::text::regclass::oid`, scratch.SQL()).Scan(&copied.Relation.OID)
	return c, copied, err
}

// require makes a column NOT NULL where a CHECK stands in for it.
func (r *rehearsal) require(detail standing.Cutover, name string) (list []string) {
	for _, place := range detail.Places {
		if place.NotNull {
			c := ddl.Column{ID: rehearsalID, Table: pg.Table{Schema: place.Schema, Name: place.Name}, Target: name}
			list = append(list, append(c.ValidatePresent().Do, c.Require().Do...)...)
		}
	}
	return list
}

func (r *rehearsal) do(ctx context.Context, name string, locked bool, statements []string) error {
	stage := RehearsedStage{Name: name, Locked: locked, Statements: []RehearsedStatement{}}
	for _, sql := range statements {
		begun := time.Now()
		if _, err := r.tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("rehearse the %s: %.60q: %w", name, strings.ReplaceAll(sql, "\n", " "), err)
		}
		took := milliseconds(time.Since(begun))
		stage.Took += took
		stage.Statements = append(stage.Statements, RehearsedStatement{sql, took})
	}
	r.Stages = append(r.Stages, stage)
	return nil
}

// lookSQL is what the catalog says of a table.
const lookSQL = `SELECT concat_ws(' ', 'column', attname, atttypid, atttypmod, attnotnull, attacl::text, pg_catalog.pg_get_expr(adbin, adrelid), pg_catalog.col_description(attrelid, attnum))
  FROM pg_catalog.pg_attribute LEFT JOIN pg_catalog.pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = $1 AND attnum > 0
 UNION ALL SELECT concat_ws(' ', 'constraint', conname, convalidated, pg_catalog.pg_get_constraintdef(oid)) FROM pg_catalog.pg_constraint WHERE conrelid = $1
 UNION ALL SELECT concat_ws(' ', 'trigger', tgname, tgenabled, pg_catalog.pg_get_triggerdef(oid)) FROM pg_catalog.pg_trigger WHERE tgrelid = $1
 UNION ALL SELECT pg_catalog.pg_get_indexdef(indexrelid) FROM pg_catalog.pg_index WHERE indrelid = $1 ORDER BY 1`

func (r *rehearsal) look(ctx context.Context, relation uint32) ([]string, error) {
	return pg.Values[string](ctx, r.tx, lookSQL, relation)
}
