package ladder

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
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

// Find looks a registered column up; a name that nothing has is a [*standing.Refusal].
func (l *Ladder) Find(ctx context.Context, n standing.Name) (standing.Standing, error) {
	return standing.Of(ctx, l.DB, n)
}

// Transition changes the table by f and appends the event, in one transaction, if the column still stands where s says.
func (l *Ladder) Transition(ctx context.Context, s standing.Standing, event lifecycle.Event, f func(pg.Tx) error) error {
	event.Table, event.Column, event.Actor = s.Column.Table.String(), s.Source, l.Actor
	err := standing.Patiently(ctx, l.DB, func(tx pg.Tx) error {
		if err := l.hold(ctx, tx, s); err != nil {
			return err
		}
		if err := f(tx); err != nil {
			return err
		}
		_, err := (&lifecycle.Log{}).Append(ctx, tx, event)
		return err
	})
	return standing.Settled(s, err)
}

// hold keeps jobs and other transitions away from the column until the transaction ends, and compares.
func (l *Ladder) hold(ctx context.Context, tx pg.Tx, s standing.Standing) error {
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
		return standing.ErrMoved
	}
	return noJob(ctx, tx, s)
}

// noJob refuses while a job is at work on the table.
func noJob(ctx context.Context, q pg.Querier, s standing.Standing) error {
	return standing.CheckFree(ctx, q, s.Relid, s.Relation.Table())
}
