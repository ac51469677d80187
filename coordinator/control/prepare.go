package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Prepared is a table whose columns are ready for a job.
type Prepared struct {
	Plan
	columns []backfill.SpecColumn
}

// quarantineBudget is how many rows a job may set aside before it fails.
const quarantineBudget = 100

func (p Prepared) spec(r messages.StartRequest) backfill.Spec {
	return backfill.Spec{Schema: p.Relation.Schema, Table: p.Relation.Name, Key: p.Key.Names(), Columns: p.columns,
		Limits: backfill.Limits{Rows: r.ChunkRows}, UserTriggers: triggersWord(p.Skip), Budget: quarantineBudget}
}

// triggersWord is what becomes of the user's own triggers, as a job's spec says it.
func triggersWord(skip bool) string {
	if skip {
		return messages.TriggersSkip
	}
	return messages.TriggersFire
}

// Prepare checks everything first and then climbs the missing rungs, each recorded in the event log in the
// transaction that climbs it: target column, registered column, proven key, validated check, capture. Climbing a rung
// that stands already changes nothing, so a failure half-way is repaired by asking again. Only the leader prepares.
func (p *Plane) Prepare(ctx context.Context, r messages.StartRequest) (Prepared, error) {
	plan, err := Preflight(ctx, p.DB, r)
	if err != nil {
		return Prepared{}, err
	}
	prepared := Prepared{Plan: plan}
	for i := range plan.Columns {
		column, err := p.climb(ctx, plan, plan.Columns[i])
		if err != nil {
			return Prepared{}, fmt.Errorf("prepare column %s of %s: %w", plan.Columns[i].Source.Name, plan.Relation.Table(), err)
		}
		prepared.columns = append(prepared.columns, column)
	}
	if r.Strict {
		return prepared, p.refuseMissedWrites(ctx, plan, prepared.columns)
	}
	return prepared, nil
}

// refuseMissedWrites makes writes that miss one of the columns fail. It is done when all of them are ready, and again
// changes nothing.
func (p *Plane) refuseMissedWrites(ctx context.Context, plan Plan, columns []backfill.SpecColumn) error {
	return p.alter(ctx, func(tx pg.Tx) error {
		for _, c := range columns {
			if strictlyWritten(plan.Relation, c.ID) {
				continue
			}
			steps := ddl.Column{ID: c.ID, Table: plan.Relation.Table(), Source: c.Source, Target: c.Target, Key: plan.Key.Names()}
			if err := run(ctx, tx, steps.Strict()); err != nil {
				return fmt.Errorf("let writes fail that miss %s: %w", c.Target, err)
			}
		}
		return nil
	})
}

// climb takes one column up to dual-writing.
func (p *Plane) climb(ctx context.Context, plan Plan, c PlanColumn) (backfill.SpecColumn, error) {
	column, target, err := p.addAndRegister(ctx, plan, c)
	if err != nil {
		return backfill.SpecColumn{}, err
	}
	scheme, err := lifecycle.ActivateScheme(ctx, p.DB, p.KEK, cell.Scheme{Column: column.ID, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: c.Codec,
		RowBound: true, Padding: c.Codec.DefaultPadding()})
	if err != nil {
		return backfill.SpecColumn{}, err
	}
	steps := ddl.Column{ID: column.ID, Table: plan.Relation.Table(), Source: c.Source.Name, Target: c.Target.Name, Key: plan.Key.Names()}
	if !c.Guarded {
		if err := p.guard(ctx, steps, column); err != nil {
			return backfill.SpecColumn{}, err
		}
	}
	return backfill.SpecColumn{ID: column.ID, Source: c.Source.Name, Target: c.Target.Name, SourceAttnum: c.Source.Attnum, TargetAttnum: target,
		Scheme: scheme.Number, LogTable: column.Table.String(), LogColumn: column.Source}, nil
}

// addAndRegister adds the target column if it is to be added, and gives the column its id, in one transaction.
func (p *Plane) addAndRegister(ctx context.Context, plan Plan, c PlanColumn) (column lifecycle.Column, target int16, err error) {
	steps := ddl.Column{Table: plan.Relation.Table(), Source: c.Source.Name, Target: c.Target.Name}
	err = p.alter(ctx, func(tx pg.Tx) error {
		if c.Add {
			if err := run(ctx, tx, steps.AddTarget()); err != nil {
				return err
			}
		}
		err := tx.QueryRow(ctx, `SELECT attnum FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attname = $2 AND NOT attisdropped`,
			plan.Relation.OID, c.Target.Name).Scan(&target)
		if err != nil {
			return err
		}
		column, err = lifecycle.RegisterColumn(ctx, tx, lifecycle.Column{Relid: plan.Relation.OID, SourceNum: c.Source.Attnum, TargetNum: target,
			Table: plan.Relation.Table(), Source: c.Source.Name, Target: c.Target.Name, Type: c.Source.Type, Collation: c.Source.Collation})
		if err != nil || c.Registered.ID != 0 {
			return err
		}
		return appendEvent(ctx, tx, column, lifecycle.KindSchemaAdded)
	})
	return column, target, err
}

// guard lets Postgres refuse what is no cell, and notice writes that miss the target.
func (p *Plane) guard(ctx context.Context, steps ddl.Column, column lifecycle.Column) error {
	if err := p.alter(ctx, func(tx pg.Tx) error { return check(ctx, tx, steps, column) }); err != nil {
		return err
	}
	if err := p.alter(ctx, func(tx pg.Tx) error { return run(ctx, tx, steps.Validate()) }); err != nil {
		if pg.Code(err) == checkViolation {
			err = refuse("columns", "empty the target, or name another one with --target",
				"column %s holds something that is no cell of column %s", steps.Target, steps.Source)
			return errors.Join(err, p.alter(ctx, func(tx pg.Tx) error { return undo(ctx, tx, steps.Check()) }))
		}
		return err
	}
	return p.alter(ctx, func(tx pg.Tx) error {
		if err := run(ctx, tx, steps.Capture()); err != nil {
			return err
		}
		state, err := lifecycle.Latest(ctx, tx, column.Table.String(), column.Source)
		if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
			return err
		}
		if state.Run.State == lifecycle.RunOpen || state.Run.State == lifecycle.RunPaused {
			return nil // the column stands higher than that, and its run began by giving up what was proven
		}
		return appendEvent(ctx, tx, column, lifecycle.KindDualWriting)
	})
}

const hasCheckSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND contypid = 0 AND conname = $2)`

// check adds the constraint, unless an earlier attempt did.
func check(ctx context.Context, tx pg.Tx, steps ddl.Column, column lifecycle.Column) error {
	there := false
	if err := tx.QueryRow(ctx, hasCheckSQL, column.Relid, ddl.CheckName(column.ID)).Scan(&there); err != nil || there {
		return err
	}
	return run(ctx, tx, steps.Check())
}

const checkViolation = "23514"

// alter runs f as [patiently] does, while this coordinator leads.
func (p *Plane) alter(ctx context.Context, f func(pg.Tx) error) error {
	return patiently(ctx, p.DB, func(tx pg.Tx) error {
		if err := p.lead.fence(ctx, tx); err != nil {
			return err
		}
		return f(tx)
	})
}

func run(ctx context.Context, tx pgx.Tx, s ddl.Step) error { return each(ctx, tx, s.Do) }

func undo(ctx context.Context, tx pgx.Tx, s ddl.Step) error { return each(ctx, tx, s.Undo) }

func each(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func appendEvent(ctx context.Context, tx pgx.Tx, column lifecycle.Column, kind lifecycle.Kind) error {
	_, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: column.Table.String(), Column: column.Source, Kind: kind})
	return err
}
