package ladder

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// PlannedStep is one statement of what a verb would do, in order.
type PlannedStep struct {
	Stage string `json:"stage"` // before, cutover or after: those of cutover are one transaction, each other one is its own
	Lock  string `json:"lock"`  // that it takes on the table
	SQL   string `json:"sql"`
}

// The locks of Postgres that the verbs take.
const (
	lockAccessExclusive      = "ACCESS EXCLUSIVE"
	lockShareUpdateExclusive = "SHARE UPDATE EXCLUSIVE"
)

// CutoverPlan is what a cutover would do.
type CutoverPlan struct {
	V       int           `json:"v"`
	Table   string        `json:"table"`
	Column  string        `json:"column"`
	Already bool          `json:"already"` // there is nothing to do
	Steps   []PlannedStep `json:"steps"`
	standing.Cutover
}

// PlanCutover checks the gates and says what a cutover would do, statement by statement. It changes nothing.
func (l *Ladder) PlanCutover(ctx context.Context, r CutoverRequest) (CutoverPlan, error) {
	g, err := l.look(ctx, r, "")
	plan := CutoverPlan{V: messages.Version, Table: g.Relation.Table().String(), Column: g.Source, Steps: []PlannedStep{}}
	if errors.Is(err, errCutOver) {
		plan.Already = true
		plan.Cutover, err = standing.LastCutover(ctx, l.DB, g.Column)
		return plan, err
	}
	if err != nil {
		return CutoverPlan{}, err
	}
	plan.Cutover = g.Detail
	if err := plan.before(ctx, l.DB, g); err != nil {
		return CutoverPlan{}, err
	}
	plan.during(g)
	plan.after(g)
	return plan, nil
}

func (p *CutoverPlan) add(stage, lock string, statements ...string) {
	for _, sql := range statements {
		p.Steps = append(p.Steps, PlannedStep{stage, lock, sql})
	}
}

func (p *CutoverPlan) before(ctx context.Context, q pg.Querier, g Gated) error {
	if !g.column.Indexable() {
		return nil
	}
	for _, leaf := range g.Relation.Leaves {
		there, valid, err := hasUncoveredIndex(ctx, q, g.column, leaf.Named)
		if err != nil {
			return err
		}
		step := g.column.UncoveredIndex(leaf.Named)
		if there && !valid {
			p.add("before", lockShareUpdateExclusive, step.Undo...)
		}
		if !valid {
			p.add("before", lockShareUpdateExclusive, step.Do...)
		}
	}
	return nil
}

func (p *CutoverPlan) during(g Gated) {
	p.add("cutover", lockShareUpdateExclusive, standing.ShapeSQL(g.Relation.Table()))
	p.add("cutover", lockAccessExclusive, standing.AloneSQL(g.Relation.Table()))
	for _, leaf := range g.Relation.Leaves {
		if g.column.Indexable() {
			p.add("cutover", lockAccessExclusive, g.column.Uncovered(leaf.Named))
		}
	}
	if !g.column.Indexable() {
		p.add("cutover", lockAccessExclusive, ddl.Missed(g.ID))
	}
	p.add("cutover", lockAccessExclusive, g.Detail.Swap(g.column).Step().Do...)
}

func (p *CutoverPlan) after(g Gated) {
	for _, place := range g.Detail.Places {
		if place.NotNull {
			c := ddl.Column{ID: g.ID, Table: pg.Table{Schema: place.Schema, Name: place.Name}, Target: g.Detail.SealedName}
			p.add("after", lockShareUpdateExclusive, c.ValidatePresent().Do...)
			p.add("after", lockAccessExclusive, c.Require().Do...)
		}
	}
}
