package ladder

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const lockShareRowExclusive = "SHARE ROW EXCLUSIVE"

// rungs lists the statements of the missing rungs, up to the phase that is asked for.
func (p *AdvancePlan) rungs() []PlannedStep {
	c := p.plan.Columns[0]
	steps := c.Steps(p.plan, c.Registered.ID)
	list := []PlannedStep{}
	add := func(stage, lock string, step ddl.Step) {
		for _, sql := range step.Do {
			if steps.ID == 0 {
				sql = unnumbered(sql)
			}
			list = append(list, PlannedStep{stage, lock, sql})
		}
	}
	if c.Add {
		add("schema-added", lockAccessExclusive, steps.AddTarget())
	}
	checked := slices.ContainsFunc(p.plan.Relation.Checks, func(k pg.Check) bool { return c.Registered.ID != 0 && k.Name == ddl.CheckName(c.Registered.ID) })
	if c.Add || !checked {
		add("schema-added", lockAccessExclusive, steps.Check())
	}
	if p.To.Rung() >= lifecycle.PhaseDualWriting.Rung() && !c.Guarded {
		add("dual-writing", lockShareUpdateExclusive, steps.Validate())
		add("dual-writing", lockShareRowExclusive, steps.Capture())
	}
	if names := c.Bound(p.plan.Relation); len(names) > 0 && p.To.Rung() >= lifecycle.PhaseDualWriting.Rung() {
		add("dual-writing", lockShareRowExclusive, steps.Bind(names))
	}
	if p.strict {
		add("dual-writing", lockShareRowExclusive, steps.Strict())
	}
	return list
}

// unnumbered is a statement for a column that has no id yet.
func unnumbered(sql string) string {
	none := cell.Prefix(0)
	at := len(none) - 4 // where the id begins
	return strings.NewReplacer("cipherfleet_0_", "cipherfleet_<id>_", "capture_0", "capture_<id>", "misses_0", "misses_<id>", "misses_insert_0", "misses_insert_<id>", "strict_0", "strict_<id>", "within_0", "within_<id>", "missed_0", "missed_<id>", "bound_0", "bound_<id>", "column_id = 0 ", "column_id = <id> ", "VALUES (0,", "VALUES (<id>,",
		fmt.Sprintf("%x", none), fmt.Sprintf("%x<id>", none[:at])).Replace(sql)
}

// climb climbs the missing rungs, each in its own transaction: nobody else may have moved the column in between.
func (l *Ladder) climb(ctx context.Context, s *standing.Standing, p AdvancePlan, detail json.RawMessage) error {
	plan, c := p.plan, p.plan.Columns[0]
	r := &Rungs{DB: l.DB, KEK: l.KEK, Actor: l.Actor, Detail: detail}
	r.Alter = func(ctx context.Context, f func(pg.Tx) error) error {
		return l.alone(ctx, *s, func(tx pg.Tx) error {
			if err := unregistered(ctx, tx, *s); err != nil {
				return err
			}
			return f(tx)
		})
	}
	r.Prove = func(ctx context.Context, f func(pg.Tx) error) error {
		return standing.Settled(*s, standing.Patiently(ctx, l.DB, f))
	} // it takes as long as reading the table
	column, _, err := r.schemaAdded(ctx, plan, c)
	if err != nil {
		return err
	}
	s.Column = column
	if s.State.Phase == "" {
		s.State.Phase = lifecycle.PhaseSchemaAdded
	}
	if p.To.Rung() < lifecycle.PhaseDualWriting.Rung() {
		return nil
	}
	if _, err := r.dualWriting(ctx, plan, c, column); err != nil {
		return err
	}
	if !c.Guarded {
		s.State.Phase = lifecycle.PhaseDualWriting
	}
	if p.strict {
		steps := c.Steps(plan, column.ID)
		return r.Alter(ctx, func(tx pg.Tx) error { return standing.Unwritten(ctx, tx, steps.Table, steps.Strict().Do...) })
	}
	return nil
}

// unregistered makes sure that a new column is still new, and stays so for the rest of the transaction.
func unregistered(ctx context.Context, tx pg.Tx, s standing.Standing) error {
	if s.ID != 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, `SELECT FROM cipherfleet.installation FOR UPDATE`); err != nil {
		return fmt.Errorf("keep others from registering: %w", err)
	}
	columns, err := lifecycle.Columns(ctx, tx, s.Relid)
	if err == nil && slices.ContainsFunc(columns, func(c lifecycle.Column) bool { return c.SourceNum == s.SourceNum }) {
		err = standing.ErrMoved
	}
	return err
}
