package control

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
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
	if err := p.refuseUnreachable(plan); err != nil {
		return Prepared{}, err
	}
	prepared := Prepared{Plan: plan}
	climb := &rungs{db: p.DB, kek: p.KEK, alter: p.alter, prove: p.alter}
	for i := range plan.Columns {
		column, err := climb.both(ctx, plan, plan.Columns[i])
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

// alter runs f as [patiently] does, while this coordinator leads.
func (p *Plane) alter(ctx context.Context, f func(pg.Tx) error) error {
	return patiently(ctx, p.DB, func(tx pg.Tx) error {
		if err := p.lead.fence(ctx, tx); err != nil {
			return err
		}
		return f(tx)
	})
}
