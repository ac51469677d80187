package scheme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Change is a scheme that is to go to another state, as it was looked at.
type Change struct {
	Table, Column string
	Scheme        Scheme
	Already       bool // it is there

	column column
}

// PlanActivate looks an activation over, but for who can read the scheme yet: that is known when it happens.
func (r *Registry) PlanActivate(ctx context.Context, n standing.Name, number uint16) (Change, error) {
	p, err := r.plan(ctx, n, number)
	if err != nil {
		return p, err
	}
	if p.Already = p.Scheme.State == lifecycle.SchemeActive; p.Already || p.Scheme.State == lifecycle.SchemeReadable {
		return p, p.checkPolicy()
	}
	return p, &lifecycle.StateError{Column: p.column.ID, Scheme: number, State: p.Scheme.State, Reason: "nothing is sealed with it any more",
		Advice: "make a new scheme: a number is never used again"}
}

func (r *Registry) plan(ctx context.Context, n standing.Name, number uint16) (p Change, err error) {
	if p.column, err = r.find(ctx, n); err != nil {
		return p, err
	}
	s, err := p.column.numbered(number)
	p.Table, p.Column, p.Scheme = p.column.Relation.Table().String(), p.column.Source, p.column.Described(s)
	return p, err
}

const readyPause = 500 * time.Millisecond

// Activate has the column sealed with the scheme from now on. It waits, for as long as patience, until every program with
// a live lease can read it, and then gives up with a [*lifecycle.NotReadyError]; nothing was changed then.
func (r *Registry) Activate(ctx context.Context, p Change, patience time.Duration) (Scheme, error) {
	names, err := p.column.BoundColumns(p.column.Rows)
	if err == nil && len(names) > 0 {
		err = r.guardBound(ctx, p.column, names)
	}
	if err != nil {
		return Scheme{}, err
	}
	err = Await(ctx, patience, func() error { return r.registrar().ActivateScheme(ctx, p.column.ID, p.Scheme.Number) })
	if err != nil {
		return Scheme{}, err
	}
	return r.described(ctx, p.column, p.Scheme.Number)
}

// Await does something again, for as long as patience, while it ends with a [*lifecycle.NotReadyError]: programs with a
// live lease have not heard of a scheme yet.
func Await(ctx context.Context, patience time.Duration, do func() error) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(readyPause)
	defer tick.Stop()
	for {
		err := do()
		var late *lifecycle.NotReadyError
		if err == nil || !errors.As(err, &late) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// PlanDestroy looks over whether the keys of a scheme may be deleted: it is retired, its retention is over, and still
// fenced.
func (r *Registry) PlanDestroy(ctx context.Context, n standing.Name, number uint16) (Change, error) {
	p, err := r.plan(ctx, n, number)
	if err != nil {
		return p, err
	}
	switch p.Scheme.State {
	case lifecycle.SchemeDestroyed:
		p.Already = true
		return p, nil
	case lifecycle.SchemeRetired:
	default:
		return p, &lifecycle.StateError{Column: p.column.ID, Scheme: number, State: p.Scheme.State,
			Reason: "it is not retired, so there may be cells that nobody could open without its key", Advice: "`" + p.column.command("scheme retire") + fmt.Sprintf(" %d` comes first", number)}
	}
	err = standing.Reading(ctx, r.DB, "30s", func(tx pg.Tx) error {
		if err := mustBeFenced(ctx, tx, p.column, number); err != nil {
			return err
		}
		var now time.Time
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.clock_timestamp()`).Scan(&now); err != nil {
			return fmt.Errorf("read the clock: %w", err)
		}
		if now.Before(*p.Scheme.Until) {
			return &lifecycle.RetainedError{Column: p.column.ID, Scheme: number, Until: *p.Scheme.Until}
		}
		return nil
	})
	return p, err
}

// mustBeFenced refuses where nothing proves that no cell of the scheme is left.
func mustBeFenced(ctx context.Context, tx pg.Tx, c column, number uint16) error {
	proven, err := fenced(ctx, tx, c, retired(c.Rows))
	if err == nil && !proven {
		err = standing.Refuse("scheme", "`"+c.command("scheme retire")+fmt.Sprintf(" %d` proves it again", number),
			"the fence of column %q of %s is gone, altered or not validated: nothing proves that no cell of %s is left", c.Source, c.Relation.Table(), schemeWord(number))
	}
	return err
}

// Destroy deletes the wrapped keys of the scheme, for good. It looks again at everything, in the transaction that does it,
// while nobody can alter the table.
func (r *Registry) Destroy(ctx context.Context, p Change) (Scheme, error) {
	if p.Already {
		return p.Scheme, nil
	}
	c := p.column
	err := standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE "+c.Relation.Table().SQL()+" IN ACCESS SHARE MODE"); err != nil {
			return fmt.Errorf("keep others from altering the table: %w", err)
		}
		if err := hold(ctx, tx, c); err != nil {
			return err
		}
		rows, err := lifecycle.Schemes(ctx, tx, c.ID)
		if err != nil {
			return err
		}
		now := c
		now.Rows = rows
		if err := mustBeFenced(ctx, tx, now, p.Scheme.Number); err != nil {
			return err
		}
		return r.registrar().DestroyScheme(ctx, tx, c.ID, p.Scheme.Number)
	})
	if err != nil {
		return Scheme{}, standing.Settled(c.Standing, err)
	}
	return r.described(ctx, c, p.Scheme.Number)
}
