package control

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Prepared is a table whose columns are ready for a job.
type Prepared struct {
	preflight.Plan
	columns []work.Column
}

// quarantineBudget is how many rows a job may set aside before it fails.
const quarantineBudget = 100

func (p Prepared) spec(r messages.StartRequest) work.Spec {
	return work.Spec{Schema: p.Relation.Schema, Table: p.Relation.Name, Key: p.Key.Names(), Columns: p.columns,
		Limits: work.Limits{Rows: r.ChunkRows}, UserTriggers: preflight.TriggersWord(p.Skip), Budget: quarantineBudget}
}

// Prepare checks everything first and then climbs the missing rungs, each recorded in the event log in the
// transaction that climbs it: target column, registered column, proven key, validated check, capture. Climbing a rung
// that stands already changes nothing, so a failure half-way is repaired by asking again. Only the leader prepares.
func (p *Plane) Prepare(ctx context.Context, r messages.StartRequest) (Prepared, error) {
	plan, err := preflight.Check(ctx, p.DB, r)
	if err != nil {
		return Prepared{}, err
	}
	if err := p.refuseUnreachable(plan); err != nil {
		return Prepared{}, err
	}
	if err := p.refuseAnother(ctx, plan); err != nil {
		return Prepared{}, err
	}
	if err := preflight.Unreadable(ctx, p.DB, plan, p.Foreign); err != nil {
		return Prepared{}, err
	}
	if err := p.giveUpUnwatched(ctx, plan); err != nil {
		return Prepared{}, err
	}
	prepared := Prepared{Plan: plan}
	climb := &ladder.Rungs{DB: p.DB, KEK: p.KEK, Alter: p.alter, Prove: p.alter}
	for i := range plan.Columns {
		column, err := climb.Climb(ctx, plan, plan.Columns[i])
		if err != nil {
			return Prepared{}, fmt.Errorf("prepare column %s of %s: %w", plan.Columns[i].Source.Name, plan.Relation.Table(), err)
		}
		if column.Compare, err = p.uncompared(ctx, column); err != nil {
			return Prepared{}, err
		}
		prepared.columns = append(prepared.columns, column)
	}
	if r.Strict {
		return prepared, climb.Strict(ctx, plan, prepared.columns)
	}
	return prepared, nil
}

// uncompared says whether cells may be there that are of another value than their source: the log knows.
func (p *Plane) uncompared(ctx context.Context, c work.Column) (bool, error) {
	state, err := lifecycle.Latest(ctx, p.DB, c.LogTable, c.LogColumn)
	if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
		return false, err
	}
	return state.Suspect() && !c.Foreign(), nil
}

// prepareReverse plans the job that opens cells into the plaintext. It alters nothing.
func (p *Plane) prepareReverse(ctx context.Context, r messages.StartRequest) (Prepared, error) {
	plan, column, err := ladder.Reverse(ctx, p.DB, p.KEK, r)
	if err != nil {
		return Prepared{}, err
	}
	return Prepared{Plan: plan, columns: []work.Column{column}}, nil
}

// prepareRotation plans the job that seals a column's cells anew, and has the column sealed under the scheme from now on.
// While programs are there that could not read it yet, nothing is changed, and a [*lifecycle.NotReadyError] names them.
func (p *Plane) prepareRotation(ctx context.Context, r messages.StartRequest) (Prepared, error) {
	rotation, err := ladder.PlanRotation(ctx, p.DB, r)
	if err != nil {
		return Prepared{}, err
	}
	prepared := Prepared{Plan: rotation.Job, columns: []work.Column{rotation.JobColumn()}}
	if job, err := p.jobs().Live(ctx, prepared.Relation.OID); err == nil && !prepared.isOf(job) {
		return Prepared{}, occupied(job)
	} else if err != nil && !errors.Is(err, work.ErrNoJob) {
		return Prepared{}, err
	}
	if err := rotation.Begin(ctx, lifecycle.Registrar{DB: p.DB, KEK: p.KEK, Actor: r.Actor}, p.alter); err != nil {
		return Prepared{}, err
	}
	return prepared, nil
}

// prepareIndex plans the job that fills a blind index. It alters nothing.
func (p *Plane) prepareIndex(ctx context.Context, r messages.StartRequest) (Prepared, error) {
	fill, err := index.PlanFill(ctx, p.DB, r)
	if err != nil {
		return Prepared{}, err
	}
	return Prepared{Plan: fill.Job, columns: []work.Column{fill.JobColumn()}}, nil
}

// alter runs f as [standing.Patiently.Patiently] does, while this coordinator leads.
func (p *Plane) alter(ctx context.Context, f func(pg.Tx) error) error {
	return standing.Patiently(ctx, p.DB, func(tx pg.Tx) error {
		if err := p.lead.fence(ctx, tx); err != nil {
			return err
		}
		return f(tx)
	})
}

// refuseAnother refuses, before anything is altered, what a job at work is in the way of: other columns, or another
// expression or condition.
func (p *Plane) refuseAnother(ctx context.Context, plan preflight.Plan) error {
	job, err := work.LiveOver(ctx, p.DB, plan.Relation.OID)
	if errors.Is(err, work.ErrNoJob) {
		return nil
	}
	for _, c := range plan.Columns {
		is := standing.SpecIn(job, c.Registered.ID)
		other := is.ID == 0 || is.Reverse || is.Rotate || is.Index != nil || !is.Where.Same(c.Where) ||
			(is.Made() || c.Made()) && !reflect.DeepEqual(is.Expression, c.Expression)
		if err == nil && other {
			return occupied(job)
		}
	}
	return err
}

// giveUpUnwatched ends a job over these very columns that went on, or paused, while nothing noticed who missed them: the
// one after it compares what is there.
func (p *Plane) giveUpUnwatched(ctx context.Context, plan preflight.Plan) error {
	job, err := work.LiveOver(ctx, p.DB, plan.Relation.OID)
	if errors.Is(err, work.ErrNoJob) || err == nil && len(job.Spec.Columns) != len(plan.Columns) {
		return nil
	}
	unwatched := ""
	for _, c := range plan.Columns {
		if err == nil && standing.SpecIn(job, c.Registered.ID).ID == 0 {
			return nil
		}
		if !c.Guarded && !c.Add {
			unwatched = c.Source.Name
		}
	}
	if err != nil || unwatched == "" {
		return err
	}
	_, err = p.jobs().Fail(ctx, job.ID, fmt.Sprintf("what notices writes that miss column %s was not there, or was another", unwatched))
	return err
}

// refuseUnreachable refuses a job whose encrypter no worker could ask, or whose proxy none could reach.
func (p *Plane) refuseUnreachable(plan preflight.Plan) error {
	if !p.Proxied {
		if err := preflight.Unproxied(plan); err != nil {
			return err
		}
	}
	if p.Bus == nil || p.Private {
		return preflight.Unreachable(plan)
	}
	return nil
}
