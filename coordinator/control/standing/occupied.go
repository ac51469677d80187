package standing

import (
	"context"
	"errors"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// CheckFree refuses while a job is at work on a table. Of one that the fleet began by itself the refusal says which it is:
// a [Patience] waits for that.
func CheckFree(ctx context.Context, q pg.Querier, relation uint32, table pg.Table) error {
	job, err := work.LiveOver(ctx, q, relation)
	if errors.Is(err, work.ErrNoJob) {
		return nil
	}
	if err != nil {
		return err
	}
	return Occupied("table", job, "a job over "+table.String()+" has not ended")
}

// Occupied is the refusal that speaks of a job which has not ended.
func Occupied(field string, job work.Job, message string) error {
	r := &Refusal{Code: app.CodeRefused, Kind: messages.CodeConflict, Field: field, Message: message, Hint: "cipherfleet job ls shows it: wait for its end, or cancel it"}
	if job.Passing() {
		r.Job = job.ID
	}
	return r
}

// DueTo is a refusal over a table at which the fleet may be at work by itself: what is refused can be had when that job has
// ended.
func DueTo(ctx context.Context, q pg.Querier, relation uint32, refusal error) error {
	job, err := work.LiveOver(ctx, q, relation)
	if err != nil && !errors.Is(err, work.ErrNoJob) {
		return err
	}
	var r *Refusal
	if job.Passing() && errors.As(refusal, &r) {
		r.Job = job.ID
	}
	return refusal
}

// LongestWait is how long a command waits, in all, for jobs that the fleet began by itself.
const LongestWait = 2 * time.Minute

const waitLook = 200 * time.Millisecond // how often their end is looked for

// Patience is a command's with jobs that end by themselves. It is not for several goroutines.
type Patience struct {
	DB   *pg.DB
	Left time.Duration
	Tell func(job string) // of each job that is waited for, once; nil: nobody is

	told string
}

// Through does f, and does it again when the job in its way, which the fleet began by itself, has ended or was paused. When
// nothing is left of the patience it is f's refusal, and at the end of ctx the cause of that.
func (p *Patience) Through(ctx context.Context, f func() error) error {
	for {
		refusal := f()
		var problem *messages.Problem
		if !errors.As(refusal, &problem) || problem.Job == "" {
			return refusal
		}
		if err := p.Await(ctx, problem.Job, refusal); ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			return err
		}
	}
}

// Await returns when the job has ended or was paused, or with the refusal when nothing is left of the patience.
func (p *Patience) Await(ctx context.Context, job string, refusal error) error {
	if p.Tell != nil && p.told != job && p.Left > 0 {
		p.told = job
		p.Tell(job)
	}
	began, jobs, tick := time.Now(), &work.Jobs{DB: p.DB}, time.NewTicker(waitLook)
	defer tick.Stop()
	defer func() { p.Left -= time.Since(began) }()
	for time.Since(began) < p.Left {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		switch now, err := jobs.Load(ctx, job); {
		case errors.Is(err, work.ErrNoJob):
			return nil
		case err != nil, now.State.Ended(), now.State == work.Paused:
			return err
		}
	}
	return refusal
}
