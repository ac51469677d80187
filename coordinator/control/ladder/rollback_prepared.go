package ladder

import (
	"context"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// guardsSQL counts what guards the target.
const guardsSQL = `SELECT (SELECT count(*) FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND contypid = 0 AND conname = ANY ($2::text[]))
 + (SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgname = ANY ($3::text[]))`

// planPrepared is a rollback from before a cutover: capture and check go, the target stays with its cells.
func (p *RollbackPlan) planPrepared(ctx context.Context, q pg.Querier, r RollbackRequest) (err error) {
	p.To = lifecycle.PhaseSchemaAdded
	if p.State.Phase == lifecycle.PhaseBackfilled && r.To == "" {
		last, err := lastMove(ctx, q, p.Standing)
		if err != nil {
			return err
		}
		if last == lifecycle.KindRolledBack {
			p.To, p.Already = lifecycle.PhaseBackfilled, true
			return nil
		}
	}
	if p.Plain.Attnum == 0 {
		return checkReversible(p.Standing)
	}
	if p.column, err = Steps(ctx, q, p.Standing); err != nil {
		return err
	}
	if r.DropTarget && p.Sealed.Attnum != 0 && p.Sealed.Attnum == p.Plain.Attnum {
		return standing.Refuse("drop-target", "leave it out", "%s was changed in place: its target is the column itself", p.Relation.Table().String()+"."+p.Source)
	}
	guards := 0
	names := []string{ddl.CheckName(p.ID), ddl.CoverageName(p.ID), ddl.PresentName(p.ID), ddl.BareName(p.ID)}
	if err := q.QueryRow(ctx, guardsSQL, p.Relation.OID, names, ddl.AnyCaptureTriggers(p.ID)).Scan(&guards); err != nil {
		return fmt.Errorf("look for what was prepared: %w", err)
	}
	drop := r.DropTarget && p.Sealed.Attnum != 0
	if drop {
		if err := standing.CheckUnneeded(ctx, q, "drop-target", p.Column); err != nil {
			return err
		}
	}
	if (p.State.Phase == lifecycle.PhaseSchemaAdded || p.State.Phase == "") && guards == 0 && !drop {
		p.Already = true
		return nil
	}
	p.Steps = []string{"drop the capture triggers and the CHECK (ACCESS EXCLUSIVE, for a moment)"}
	if drop {
		p.Steps = append(p.Steps, fmt.Sprintf("drop column %s with its cells (in the same transaction)", p.Sealed.Name))
	}
	return nil
}

// undoPrepared is one transaction. The sequence that counts missed writes goes with its capture.
func (l *Ladder) undoPrepared(ctx context.Context, p RollbackPlan, r RollbackRequest, result *Rollback) error {
	event, err := p.event(r)
	if err != nil {
		return err
	}
	return l.Transition(ctx, p.Standing, event, func(tx pg.Tx) error {
		since, err := lockTable(ctx, tx, p.Relation.Table())
		if err != nil {
			return err
		}
		steps := []ddl.Step{p.column.AnyCapture(), p.column.Coverage(), p.column.Bare(false)}
		if p.Sealed.Attnum != 0 {
			steps = append(steps, p.column.Present(), p.column.Check())
		}
		if r.DropTarget && p.Sealed.Attnum != 0 {
			steps = append(steps, p.column.Shredded(nil), p.column.Bind(nil), p.column.AddTarget())
		}
		for _, step := range steps {
			if err := undo(ctx, tx, step); err != nil {
				return p.needed(err)
			}
		}
		if err := dropIndexes(ctx, tx, p.Relation.Leaves, p.column.UncoveredIndexName); err != nil {
			return err
		}
		result.Locked = milliseconds(time.Since(since))
		return nil
	})
}

// needed is the refusal that Postgres's own amounts to where something depends on the target.
func (p RollbackPlan) needed(err error) error {
	if pg.Code(err) != "2BP01" {
		return err
	}
	return standing.Refuse("drop-target", "change or drop first what stands on it, such as a view, or leave --drop-target out; nothing was changed",
		"column %s of %s cannot be dropped, because something depends on it", p.Sealed.Name, p.Relation.Table())
}

// dropIndexes drops an index of ours on each leaf, under the lock that is held anyway.
func dropIndexes(ctx context.Context, tx pg.Tx, leaves []pg.Leaf, name func(pg.Named) string) error {
	for _, leaf := range leaves {
		if _, err := tx.Exec(ctx, "DROP INDEX IF EXISTS "+pg.Ident(leaf.Schema, name(leaf.Named))); err != nil {
			return fmt.Errorf("drop an index of %s: %w", leaf.Table(), err)
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
