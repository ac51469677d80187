package scheme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/shred"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// RetirePlan is a scheme to retire, every precondition met when it was looked at.
type RetirePlan struct {
	Table, Column string
	Scheme        Scheme
	Already       bool        // it is retired or destroyed, and fenced
	Statements    []Statement // that the fence takes, in order

	column  column
	retired []uint16 // the numbers that the fence is against
}

// Statement is one statement with the lock on the table that it takes.
type Statement struct{ SQL, Lock string }

const (
	briefly = "ACCESS EXCLUSIVE, for a moment; no row is read"
	beside  = "SHARE UPDATE EXCLUSIVE, while every row is read, beside readers and writers"
)

const mostCounted = 1_000_000 // cells of a scheme that is to retire; more are as bad

// PlanRetire looks a retirement over: the scheme is not written with, nobody who is there may still write it, and no
// cell of it is left. It reads the whole table, unless the fence stands already.
func (r *Registry) PlanRetire(ctx context.Context, n standing.Name, number uint16) (p RetirePlan, err error) {
	if p.column, err = r.find(ctx, n); err != nil {
		return p, err
	}
	c := p.column
	s, err := c.numbered(number)
	if err != nil {
		return p, err
	}
	p.Table, p.Column, p.Scheme, p.retired = c.Relation.Table().String(), c.Source, c.Described(s), retired(c.Rows, number)
	err = standing.Reading(ctx, r.DB, "0", func(tx pg.Tx) error {
		over := s.State == lifecycle.SchemeRetired || s.State == lifecycle.SchemeDestroyed
		if !over {
			if err := lifecycle.MayRetire(ctx, tx, c.ID, number); err != nil {
				return err
			}
		}
		proven, err := fenced(ctx, tx, c, p.retired)
		if p.Already = over && proven; err != nil || proven {
			return err
		}
		return c.leftBehind(ctx, tx, number)
	})
	if err != nil || p.Already || c.Sealed.Attnum == 0 {
		return p, err
	}
	if !c.Relation.Privileges.Owner {
		return p, standing.Deny("table", "run this as the owner of the table", "role %q may not alter %s", c.Relation.Server.User, p.Table)
	}
	steps := c.steps()
	for _, part := range []struct {
		step ddl.Step
		lock string
	}{{steps.Fence(p.retired), briefly}, {steps.ValidateFence(), beside}, {steps.RaiseFence(), briefly}} {
		for _, sql := range part.step.Do {
			p.Statements = append(p.Statements, Statement{sql, part.lock})
		}
	}
	return p, nil
}

// leftBehind refuses while there are cells of the scheme.
func (c column) leftBehind(ctx context.Context, q pg.Querier, number uint16) error {
	if c.Sealed.Attnum == 0 {
		return nil
	}
	var left int64
	if err := q.QueryRow(ctx, c.steps().LeftBehind(number, mostCounted)).Scan(&left); err != nil {
		return fmt.Errorf("count cells of %s: %w", schemeWord(number), err)
	}
	if left == 0 {
		return nil
	}
	count := fmt.Sprint(left)
	if left == mostCounted {
		count = fmt.Sprintf("at least %d", left)
	}
	return &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("cells of %s are left in %s of %s: %s", schemeWord(number), c.Sealed.Name, c.Relation.Table(), count),
		Hint: "`" + c.command("rotate") + "` seals them anew; those of a tenant who was shredded go with scheme shred --clear-cells; nothing was changed"}
}

const checkViolation = "23514"

// Retire proves that no cell of the scheme is left: a constraint is added without reading a row, validated beside readers
// and writers, and stays, so that Postgres refuses such cells from then on. Then the scheme is retired, in the transaction
// that puts the proven constraint in its place. A cell that turns up meanwhile ends it, and the constraint is taken away.
// Killed in between, the same call goes on.
func (r *Registry) Retire(ctx context.Context, p RetirePlan) (Scheme, error) {
	c, number := p.column, p.Scheme.Number
	if p.Already {
		return p.Scheme, nil
	}
	if err := r.prove(ctx, p); err != nil {
		return Scheme{}, standing.Settled(c.Standing, err)
	}
	if err := standing.Patiently(ctx, r.DB, func(tx pg.Tx) error { return r.conclude(ctx, tx, p) }); err != nil {
		return Scheme{}, standing.Settled(c.Standing, errors.Join(err, r.withdraw(ctx, p)))
	}
	if s, err := c.numbered(number); err == nil && s.Columns != "" {
		r.releaseBound(ctx, c)
	}
	done, err := r.described(ctx, c, number)
	done.Fenced = true
	return done, err
}

// conclude puts the proven fence in its place and retires the scheme.
func (r *Registry) conclude(ctx context.Context, tx pg.Tx, p RetirePlan) error {
	c := p.column
	if err := hold(ctx, tx, c); err != nil {
		return err
	}
	proven, err := fenced(ctx, tx, c, p.retired)
	if err != nil {
		return err
	}
	if !proven {
		err := standing.Alone(ctx, tx, c.Relation.Table(), c.steps().RaiseFence().Do...)
		if pg.Code(err) == undefinedObject {
			return errBusy(c)
		}
		if err != nil {
			return fmt.Errorf("raise the fence: %w", err)
		}
	}
	if err := r.retire(ctx, tx, p); err != nil || c.Sealed.Attnum == 0 || p.Scheme.Tenant == "" {
		return err
	}
	gone, err := shred.Keys(ctx, tx, c.ID) // those of the scheme are refused with it
	if err == nil {
		err = standing.Alone(ctx, tx, c.Relation.Table(), c.steps().Shredded(gone).Do...)
	}
	if err != nil {
		return fmt.Errorf("refuse shredded keys of other schemes alone: %w", err)
	}
	return nil
}

// withdraw takes the next fence away. One that is not proven refuses updates of rows whose cell is old: it must not stay.
func (r *Registry) withdraw(ctx context.Context, p RetirePlan) error {
	if p.column.Sealed.Attnum == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
		return standing.Alone(ctx, tx, p.column.Relation.Table(), p.column.steps().Fence(p.retired).Undo...)
	})
}

// retire records it, and looks whether the fence that stands is the proof of just that.
func (r *Registry) retire(ctx context.Context, tx pg.Tx, p RetirePlan) error {
	if p.Scheme.State != lifecycle.SchemeDestroyed { // else only its fence was missing
		if err := r.registrar().RetireScheme(ctx, tx, p.column.ID, p.Scheme.Number); err != nil {
			return err
		}
	}
	rows, err := lifecycle.Schemes(ctx, tx, p.column.ID)
	if err != nil {
		return err
	}
	proven, err := fenced(ctx, tx, p.column, retired(rows))
	if err == nil && !proven {
		err = errBusy(p.column)
	}
	return err
}

func errBusy(c column) error {
	return standing.Clash("column", "ask for the same again", "somebody else is retiring a scheme of column %q of %s", c.Source, c.Relation.Table())
}

// prove adds the next fence and has Postgres validate it, unless another one has had it proven meanwhile.
func (r *Registry) prove(ctx context.Context, p RetirePlan) error {
	c := p.column
	if c.Sealed.Attnum == 0 {
		return nil
	}
	var proven bool
	err := standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
		err := hold(ctx, tx, c)
		if err != nil {
			return err
		}
		if proven, err = fenced(ctx, tx, c, p.retired); err != nil || proven {
			return err
		}
		return standing.Alone(ctx, tx, c.Relation.Table(), c.steps().Fence(p.retired).Do...)
	})
	if err != nil {
		return fmt.Errorf("make the fence: %w", err)
	}
	if proven {
		return nil
	}
	// without holding the column: it takes as long as reading the table
	err = standing.Patiently(ctx, r.DB, func(tx pg.Tx) error { return run(ctx, tx, c.steps().ValidateFence()) })
	switch {
	case err == nil:
		return nil
	case pg.Code(err) == undefinedObject:
		return errBusy(c)
	}
	back := r.withdraw(ctx, p)
	if pg.Code(err) != checkViolation {
		return errors.Join(err, back)
	}
	if left := c.leftBehind(ctx, r.DB, p.Scheme.Number); left != nil {
		err = left
	}
	return errors.Join(err, back)
}

const (
	undefinedObject = "42704"
	undoTime        = time.Minute
)

// hold keeps other transitions of the column away until the transaction ends, and looks whether it is where it was.
func hold(ctx context.Context, tx pg.Tx, c column) error {
	var target int16
	err := tx.QueryRow(ctx, `SELECT coalesce(target_attnum, 0) FROM cipherfleet.columns WHERE id = $1 AND (retired_at IS NOT NULL) = $2 FOR UPDATE`, c.ID, c.gone).Scan(&target)
	if err != nil {
		return fmt.Errorf("hold the column: %w", err)
	}
	name := ""
	const nameSQL = `SELECT coalesce((SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum = $2 AND NOT a.attisdropped), '')`
	if err := tx.QueryRow(ctx, nameSQL, c.Relid, target).Scan(&name); err != nil {
		return fmt.Errorf("hold the column: %w", err)
	}
	if name != c.Sealed.Name {
		return standing.ErrMoved
	}
	return nil
}

func run(ctx context.Context, tx pg.Tx, s ddl.Step) error { return standing.Each(ctx, tx, s.Do) }
