package ladder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Rungs climbs one column of a plan, each rung recorded in the transaction that climbs it. A leader climbs all of them
// before a job, and an operator one by one. A rung that stands already is left as it is.
type Rungs struct {
	DB     *pg.DB
	KEK    cell.KEK
	Actor  string          // of the events; "": the database role
	Detail json.RawMessage // of the events
	// alter runs one change in a transaction of its own, patiently, while nobody else moves the column; prove the same
	// for one that reads the whole table.
	Alter, Prove func(context.Context, func(pg.Tx) error) error
}

// schemaAdded adds the target column if it is to be added, gives the column its id, and keeps everything but cells of
// it out of the target from now on, in one transaction.
func (r *Rungs) schemaAdded(ctx context.Context, plan preflight.Plan, c preflight.Column) (column lifecycle.Column, target int16, err error) {
	steps := c.Steps(plan, 0)
	err = r.Alter(ctx, func(tx pg.Tx) error {
		if c.Add {
			if err := standing.Alone(ctx, tx, steps.Table, steps.AddTarget().Do...); err != nil {
				return err
			}
		}
		err := tx.QueryRow(ctx, `SELECT attnum FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attname = $2 AND NOT attisdropped`,
			plan.Relation.OID, c.Target.Name).Scan(&target)
		if err != nil {
			return err
		}
		typ, collation := c.RegisteredAs()
		column, err = lifecycle.RegisterColumn(ctx, tx, lifecycle.Column{Relid: plan.Relation.OID, SourceNum: c.Source.Attnum, TargetNum: target,
			Table: plan.Relation.Table(), Source: c.LogName(), Target: c.Target.Name, Type: typ, Collation: collation})
		if err != nil {
			return err
		}
		if steps.ID = column.ID; (c.Registered.ID == 0 || c.Add) && !steps.InPlace() {
			if err := check(ctx, tx, steps, column); err != nil {
				return err
			}
		}
		if c.Registered.ID != 0 {
			return nil
		}
		return r.append(ctx, tx, column, lifecycle.KindSchemaAdded)
	})
	return column, target, err
}

// dualWriting gives the column its key, proves that the target holds cells or nothing, and has writes noticed that miss
// it.
func (r *Rungs) dualWriting(ctx context.Context, plan preflight.Plan, c preflight.Column, column lifecycle.Column) (scheme cell.Scheme, err error) {
	if c.Sealed() {
		scheme, err = r.scheme(ctx, column.ID, c)
	}
	if err == nil && !c.Guarded {
		err = r.guard(ctx, c.Steps(plan, column.ID), column)
	}
	if err != nil || scheme.Number == 0 {
		return scheme, err
	}
	return scheme, standing.BindAnew(ctx, r.DB, plan.Relation, c.Steps(plan, column.ID), r.Alter)
}

// scheme is what the column is sealed with, its key proven; one that has none gets its first.
func (r *Rungs) scheme(ctx context.Context, column uint32, c preflight.Column) (cell.Scheme, error) {
	all, err := lifecycle.Schemes(ctx, r.DB, column)
	if err != nil {
		return cell.Scheme{}, err
	}
	registrar := lifecycle.Registrar{DB: r.DB, KEK: r.KEK, Actor: r.Actor}
	newest := slices.IndexFunc(all, func(s lifecycle.SchemeRow) bool { return s.State == lifecycle.SchemeActive })
	for i := 0; newest < 0 && i < len(all); i++ { // somebody made its first one before anything is sealed
		if one := all[len(all)-1-i]; one.State == lifecycle.SchemeReadable {
			if err := registrar.ActivateScheme(ctx, column, one.Number); err != nil {
				return cell.Scheme{}, err
			}
			newest = len(all) - 1 - i
		}
	}
	if newest < 0 {
		return lifecycle.ActivateFirst(ctx, r.DB, r.KEK, c.First(column))
	}
	return registrar.NewScheme(ctx, all[newest].Definition)
}

// guard lets Postgres refuse what is no cell, and notice writes that miss the target.
func (r *Rungs) guard(ctx context.Context, steps ddl.Column, column lifecycle.Column) error {
	if steps.InPlace() { // nothing is to be told from its source
		return r.capture(ctx, steps, column)
	}
	if err := r.Alter(ctx, func(tx pg.Tx) error { return check(ctx, tx, steps, column) }); err != nil {
		return err
	}
	if err := r.Prove(ctx, func(tx pg.Tx) error { return run(ctx, tx, steps.Validate()) }); err != nil {
		if pg.Code(err) == checkViolation {
			err = standing.Refuse("columns", "empty the target, or name another one with --target",
				"column %s holds something that is no cell of column %s", steps.Target, steps.Source)
			return errors.Join(err, r.Alter(ctx, func(tx pg.Tx) error { return standing.Alone(ctx, tx, steps.Table, steps.Check().Undo...) }))
		}
		return err
	}
	return r.capture(ctx, steps, column)
}

func (r *Rungs) capture(ctx context.Context, steps ddl.Column, column lifecycle.Column) error {
	return r.Alter(ctx, func(tx pg.Tx) error {
		if err := standing.Capture(ctx, tx, steps); err != nil {
			return err
		}
		state, err := lifecycle.Latest(ctx, tx, column.Table.String(), column.Source)
		if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
			return err
		}
		if state.Run.State == lifecycle.RunOpen || state.Run.State == lifecycle.RunPaused {
			return nil // the column stands higher than that, and its run began by giving up what was proven
		}
		return r.append(ctx, tx, column, lifecycle.KindDualWriting)
	})
}

func (r *Rungs) append(ctx context.Context, tx pgx.Tx, column lifecycle.Column, kind lifecycle.Kind) error {
	_, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: column.Table.String(), Column: column.Source, Kind: kind, Actor: r.Actor, Detail: r.Detail})
	return err
}

const hasCheckSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND contypid = 0 AND conname = $2)`

// check adds the constraint, unless an earlier attempt did.
func check(ctx context.Context, tx pg.Tx, steps ddl.Column, column lifecycle.Column) error {
	there := false
	if err := tx.QueryRow(ctx, hasCheckSQL, column.Relid, ddl.CheckName(column.ID)).Scan(&there); err != nil || there {
		return err
	}
	return standing.Alone(ctx, tx, steps.Table, steps.Check().Do...)
}

const checkViolation = "23514"

// Climb climbs one column up to dual-writing.
func (r *Rungs) Climb(ctx context.Context, plan preflight.Plan, c preflight.Column) (work.Column, error) {
	column, target, err := r.schemaAdded(ctx, plan, c)
	if err != nil {
		return work.Column{}, err
	}
	scheme, err := r.dualWriting(ctx, plan, c, column)
	if err != nil {
		return work.Column{}, err
	}
	return work.Column{ID: column.ID, Source: c.Source.Name, Target: c.Target.Name, SourceAttnum: c.Source.Attnum, TargetAttnum: target,
		Scheme: scheme.Number, External: c.Encrypter(plan), Origin: c.Origin, Expression: c.Expression, Where: c.Where, LogTable: column.Table.String(), LogColumn: column.Source}, nil
}

// Strict makes writes that miss one of the columns fail. It is done when all of them are ready, and again changes
// nothing.
func (r *Rungs) Strict(ctx context.Context, plan preflight.Plan, columns []work.Column) error {
	return r.Alter(ctx, func(tx pg.Tx) error {
		for i, c := range columns {
			if standing.IsStrict(plan.Relation, c.ID) {
				continue
			}
			steps := ddl.Column{ID: c.ID, Table: plan.Relation.Table(), Source: c.Source, Target: c.Target, Key: plan.Key.Names(), Beside: c.Origin.Names(), Nulls: plan.Columns[i].Steps(plan, c.ID).Nulls}
			if err := standing.Unwritten(ctx, tx, steps.Table, steps.Strict().Do...); err != nil {
				return fmt.Errorf("let writes fail that miss %s: %w", c.Target, err)
			}
		}
		return nil
	})
}

func run(ctx context.Context, tx pg.Tx, s ddl.Step) error { return standing.Each(ctx, tx, s.Do) }

func undo(ctx context.Context, tx pg.Tx, s ddl.Step) error { return standing.Each(ctx, tx, s.Undo) }
