package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Ladder carries single columns up and down for an operator. Each transition is one transaction: it compares the phase
// that the log folds to with the one it was planned for, changes the table, and appends its event. Between two
// transitions a column stands on a rung; killed at any moment, the same verb finishes or says what to do. A Ladder
// needs no coordinator, and does not disturb one: while a job is at work on the table it refuses.
type Ladder struct {
	DB    *pg.DB
	KEK   cell.KEK // of verbs that make keys or open cells
	Actor string   // who asked; empty: the database role
}

// ColumnName names a column of a table as an operator does: by the name that its plaintext had when it was registered,
// or has today. Names are literal.
type ColumnName struct{ Schema, Table, Column string }

// String is the name as a person reads it.
func (n ColumnName) String() string { return n.Schema + "." + n.Table + "." + n.Column }

// Standing is a registered column, its table, and where it stands.
type Standing struct {
	lifecycle.Column
	Relation      pg.Relation
	State         lifecycle.State
	Plain, Sealed pg.Column // the columns that hold plaintext and cells, under today's names; Attnum 0: gone
}

// Find looks a registered column up; a name that nothing has is a [*Refusal].
func (l *Ladder) Find(ctx context.Context, n ColumnName) (s Standing, err error) {
	err = reading(ctx, l.DB, "30s", func(tx pg.Tx) error {
		s, err = standing(ctx, tx, n)
		return err
	})
	return s, err
}

func standing(ctx context.Context, q pg.Querier, n ColumnName) (s Standing, err error) {
	if err := checkInstalled(ctx, q); err != nil {
		return s, err
	}
	if s.Relation, err = pg.Inspect(ctx, q, n.Schema, n.Table); err != nil {
		var missing *pg.NotFound
		if errors.As(err, &missing) {
			return s, lack("table", nearHint(missing.Near), "%v", missing)
		}
		return s, err
	}
	registered, err := lifecycle.Columns(ctx, q, s.Relation.OID)
	if err != nil {
		return s, err
	}
	at := slices.IndexFunc(registered, func(c lifecycle.Column) bool { return c.Source == n.Column })
	if at < 0 {
		at = slices.IndexFunc(registered, func(c lifecycle.Column) bool { return byNumber(s.Relation, c.SourceNum).Name == n.Column })
	}
	if at < 0 {
		return s, lack("column", "cipherfleet status lists the columns; cipherfleet advance --to schema-added begins with a new one",
			"column %q of %s is not registered", n.Column, s.Relation.Table())
	}
	s.Column = registered[at]
	s.Plain, s.Sealed = byNumber(s.Relation, s.SourceNum), byNumber(s.Relation, s.TargetNum)
	s.State, err = lifecycle.Latest(ctx, q, s.Column.Table.String(), s.Source)
	if errors.Is(err, lifecycle.ErrImpossible) {
		err = nil // status tells; what could be folded counts
	}
	return s, err
}

// errMoved says that the column is not on the rung any more that a transition was planned for.
var errMoved = errors.New("the column moved meanwhile")

// transition changes the table by f and appends the event, in one transaction, if the column still stands where s says.
func (l *Ladder) transition(ctx context.Context, s Standing, event lifecycle.Event, f func(pg.Tx) error) error {
	event.Table, event.Column, event.Actor = s.Column.Table.String(), s.Source, l.Actor
	err := patiently(ctx, l.DB, func(tx pg.Tx) error {
		if err := l.hold(ctx, tx, s); err != nil {
			return err
		}
		if err := f(tx); err != nil {
			return err
		}
		_, err := (&lifecycle.Log{}).Append(ctx, tx, event)
		return err
	})
	return settled(s, err)
}

// settled turns what a person can do something about into a refusal: the column moved, or the table stayed locked.
func settled(s Standing, err error) error {
	switch {
	case errors.Is(err, errMoved):
		return clash("column", "ask for the same again, if it is still wanted", "column %s of %s is not %s any more: somebody else moved it",
			s.Source, s.Relation.Table(), phaseWord(s.State.Phase))
	case pg.ClassOf(err) == pg.ClassLock:
		return refuse("table", "wait until the transactions that hold it have ended (pg_stat_activity shows them), and ask for the same again",
			"%s is locked by others: no lock was got in %v of short attempts", s.Relation.Table(), ddlLongest)
	}
	return err
}

// hold keeps jobs and other transitions away from the column until the transaction ends, and compares.
func (l *Ladder) hold(ctx context.Context, tx pg.Tx, s Standing) error {
	if _, err := tx.Exec(ctx, `LOCK TABLE cipherfleet.jobs IN SHARE MODE`); err != nil { // nobody begins or ends one
		return fmt.Errorf("keep jobs away: %w", err)
	}
	if _, err := tx.Exec(ctx, `SELECT FROM cipherfleet.columns WHERE id = $1 FOR UPDATE`, s.ID); err != nil {
		return fmt.Errorf("hold the column: %w", err)
	}
	state, err := lifecycle.Latest(ctx, tx, s.Column.Table.String(), s.Source)
	switch {
	case err != nil && !errors.Is(err, lifecycle.ErrImpossible):
		return err
	case state.Phase != s.State.Phase:
		return errMoved
	}
	return noJob(ctx, tx, s)
}

// noJob refuses while a job is at work on the table.
func noJob(ctx context.Context, q pg.Querier, s Standing) error {
	_, err := backfill.LiveOver(ctx, q, s.Relid)
	if errors.Is(err, backfill.ErrNoJob) {
		return nil
	}
	if err != nil {
		return err
	}
	return clash("table", "cipherfleet job ls shows it: wait for its end, or cancel it", "a job over %s has not ended", s.Relation.Table())
}

// phaseWord is a phase in a sentence.
func phaseWord(p lifecycle.Phase) string {
	if p == "" {
		return "new"
	}
	return string(p)
}
