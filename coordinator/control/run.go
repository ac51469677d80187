package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Lead campaigns until it leads, leads until ctx ends or the lead is lost, and campaigns again. It returns nil when ctx
// ends. Serving tells, once per lead, that requests are answered. A coordinator that has never led and meets, for as
// long as a server may take to start, nothing but what no waiting mends returns that.
func (p *Plane) Lead(ctx context.Context, serving func()) error {
	begun, led := time.Now(), false
	for pause, standby := p.Reconcile, false; ctx.Err() == nil; {
		err := p.LeadOnce(ctx, func() {
			led, standby, pause = true, false, min(again, p.Reconcile) // a lead that is lost is looked for soon
			serving()
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case !led && hopeless(err) && time.Since(begun) > startTime:
			return fmt.Errorf("lead: %w", err)
		case !errors.Is(err, ErrLed):
			p.Log.WarnContext(ctx, "this coordinator does not lead", "error", err)
		case !standby:
			standby = true
			p.Log.InfoContext(ctx, "another coordinator leads: this one stands by", p.leader(ctx)...)
		}
		wait(ctx, pause)
		pause = min(2*pause, p.Reconcile)
	}
	return nil
}

const again = 100 * time.Millisecond // after which a coordinator that led campaigns first; then it waits twice as long each time

const startTime = 10 * time.Second // JetStream answers a while after its server does

// hopeless says that somebody has to change something before this coordinator can lead.
func hopeless(err error) bool {
	for _, kind := range []error{bus.ErrNoJetStream, bus.ErrFull, bus.ErrForeignQueue, bus.ErrDenied} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return pg.ClassOf(err) == pg.ClassDenied
}

// LeadOnce leads until ctx ends or the lead is lost; ErrLed if another coordinator leads.
func (p *Plane) LeadOnce(ctx context.Context, serving func()) error {
	conn, err := p.campaign(ctx)
	if err != nil {
		return err
	}
	defer abdicate(ctx, conn)
	if err := p.openQueue(ctx); err != nil {
		return err
	}
	service, err := p.Bus.Serve(ctx, p.handlers())
	if err != nil {
		return fmt.Errorf("answer requests: %w", err)
	}
	defer service.Stop() //nolint:errcheck // the connection's end stops it too
	keeper := p.keeper()
	defer keeper.stop()
	p.Log.InfoContext(ctx, "this coordinator leads", "epoch", p.lead.epoch.Load())
	serving()
	for looked := (time.Time{}); ; {
		thorough := time.Since(looked) >= p.Reconcile
		if thorough {
			looked = time.Now()
		}
		err := p.round(ctx, thorough, keeper)
		if err != nil {
			if errors.Is(err, ErrDeposed) || ctx.Err() != nil {
				return err
			}
			p.Log.WarnContext(ctx, "a round failed and is repeated", "error", err)
		}
		if err := p.await(ctx, conn); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (p *Plane) handlers() bus.Handlers {
	list := answering(func(ctx context.Context, _ struct{}) ([]messages.Job, error) { return p.List(ctx) })
	return bus.Handlers{
		Start: answering(p.Start), Get: answering(p.Get), Pause: answering(p.Pause), Resume: answering(p.Resume), Cancel: answering(p.Cancel), Retry: answering(p.Retry),
		List: func(ctx context.Context) ([]messages.Job, error) { return list(ctx, struct{}{}) },
	}
}

// round looks at every job that has not ended and does what it needs next; a thorough one compares queue and Postgres
// before, and has the keeper look around behind it. One job's trouble does not keep the others, nor what is done.
func (p *Plane) round(ctx context.Context, thorough bool, keeper *keeper) error {
	if thorough {
		if err := p.reconcile(ctx); err != nil {
			return err
		}
	}
	jobs, err := p.jobs().Unfinished(ctx)
	if err != nil {
		return err
	}
	var trouble error
	if thorough {
		_, trouble = standing.RecordDropped(ctx, p.DB)
	}
	for _, job := range jobs {
		if err := p.tend(ctx, job); err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("tend job %s: %w", job.ID, err))
		}
		if thorough {
			trouble = errors.Join(trouble, p.share(ctx, job))
		}
	}
	if thorough && !errors.Is(trouble, ErrDeposed) {
		trouble = errors.Join(trouble, keeper.look(ctx))
	}
	return trouble
}

// tend does what one job needs next.
func (p *Plane) tend(ctx context.Context, job work.Job) error {
	ctx = withParent(ctx, job.TraceParent)
	switch job.State {
	case work.Planning:
		return p.plan(ctx, job)
	case work.Running, work.Sweeping:
		open, offered, err := p.open(ctx, job)
		switch {
		case err != nil:
			return err
		case open == 0:
			return p.step(ctx, job)
		case offered < min(open, window):
			return p.refill(ctx, job)
		}
	}
	return nil
}

// plan cuts the table and offers the first window.
func (p *Plane) plan(ctx context.Context, job work.Job) error {
	ctx, span := p.Tracer.Start(ctx, "plan")
	defer span.End()
	relation, err := pg.Inspect(ctx, p.DB, job.Spec.Schema, job.Spec.Table)
	var gone *pg.NotFound
	if errors.As(err, &gone) || err == nil && relation.OID != job.Relation {
		_, err := p.jobs().Fail(ctx, job.ID, "the table is no longer there under its name")
		return err
	}
	if err != nil {
		return err
	}
	planner := &work.Planner{Jobs: p.jobs(), RangeRows: p.RangeRows}
	if job, err = planner.Plan(ctx, job.ID, relation); err != nil {
		return err
	}
	return p.refill(ctx, job)
}

// step takes a job on whose ranges are all closed; a new sweep's ranges are offered at once.
func (p *Plane) step(ctx context.Context, job work.Job) error {
	ctx, span := p.Tracer.Start(ctx, "step")
	defer span.End()
	leaves, err := p.leaves(ctx, job)
	if err != nil {
		return err
	}
	if len(leaves) == 0 {
		there := false
		if err := p.DB.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $1)`, job.Relation).Scan(&there); err != nil {
			return err
		}
		if !there { // no rows are left to cover, but nothing is proven either
			_, err := p.jobs().Fail(ctx, job.ID, "the table was dropped")
			return err
		}
	}
	if job, err = p.jobs().Step(ctx, job.ID, leaves); err != nil {
		return err
	}
	if job.State.Ended() {
		p.Log.InfoContext(ctx, "the job ended", "job", job.ID, "state", job.State, "stopped_by", job.StoppedBy)
		return nil
	}
	return p.refill(ctx, job)
}

// leaves are the relations that hold the job's rows now: a partition may have been added since.
func (p *Plane) leaves(ctx context.Context, job work.Job) ([]uint32, error) {
	return standing.Leaves(ctx, p.DB, job.Relation)
}
