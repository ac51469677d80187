package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

const claimableSQL = `SELECT id FROM cipherfleet.ranges WHERE job_id = $1 AND state = 'pending'
 AND (lease_until IS NULL OR lease_until < clock_timestamp()) ORDER BY md5(id::text)`

// work carries out the ranges that nobody else takes.
func (s *Solo) work(ctx context.Context, job work.Job, ids []int64) error {
	desk, err := s.desk(ctx, job)
	if err != nil {
		return err
	}
	kept, stop := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { desk.chain.Run(kept) })
	defer keeper.Wait()
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(s.Workers, 1))
	for _, id := range ids {
		group.Go(func() error {
			claim, standing, _, err := desk.ranges.Claim(ctx, id)
			if err != nil || standing != work.Claimed {
				return err
			}
			return s.settle(ctx, desk, claim, desk.execute(ctx, claim))
		})
	}
	return group.Wait()
}

// settle decides what becomes of a range that was worked on: as in a fleet, what may pass is tried again, and what
// cannot pass ends the job.
func (s *Solo) settle(ctx context.Context, desk *soloDesk, claim work.Claim, err error) error {
	reason := ""
	switch {
	case err == nil, errors.Is(err, work.ErrLost):
		return nil
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), desk.ranges.Release(context.WithoutCancel(ctx), claim, ""))
	case errors.Is(err, keyspace.ErrChanged), errors.Is(err, backfill.ErrQuarantineFull):
		reason = err.Error()
	case claim.Attempts < soloAttempts:
		wait(ctx, time.Duration(claim.Attempts)*100*time.Millisecond)
		return desk.ranges.Release(context.WithoutCancel(ctx), claim, backfill.ErrorClass(err))
	case backfill.Retryable(err):
		return errors.Join(err, desk.ranges.Release(ctx, claim, backfill.ErrorClass(err)))
	default:
		reason = fmt.Sprintf("range %d failed %d times: %s", claim.ID, claim.Attempts, backfill.ErrorClass(err))
	}
	s.plane.Log.ErrorContext(ctx, "the job cannot go on", "job", claim.Job, "range", claim.ID, "error", err)
	_, failed := s.plane.jobs().Fail(ctx, claim.Job, reason)
	if errors.Is(failed, work.ErrState) {
		return nil // another worker was first
	}
	return failed
}

// soloDesk is what the ranges of one job need.
type soloDesk struct {
	*Solo
	job      work.Job
	chain    *lifecycle.Keychain
	ranges   *work.Ranges
	size     *backfill.Sizer
	timeouts backfill.Timeouts
}

func (s *Solo) desk(ctx context.Context, job work.Job) (*soloDesk, error) {
	if err := work.MayReverse(ctx, s.DB, job); err != nil {
		return nil, err
	}
	chain, err := lifecycle.OpenKeychain(ctx, s.DB, s.KEK, lifecycle.KeychainConfig{Log: s.plane.Log})
	if err == nil && chain.Revision() == 0 { // a key is missing: whoever runs this is told which, and why
		_, err = lifecycle.LoadKeys(ctx, s.DB, s.KEK)
	}
	if err != nil {
		return nil, err
	}
	server, err := pg.InspectServer(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	if job, err = job.Following(chain).Reading(ctx, s.Foreign); err != nil {
		return nil, err
	}
	if err := shape.Readable(ctx, s.DB, job); err != nil {
		return nil, err
	}
	return &soloDesk{Solo: s, job: job, chain: chain, ranges: &work.Ranges{DB: s.DB, Worker: "solo", Lease: soloLease},
		size: backfill.NewSizer(job.Spec.Limits), timeouts: backfill.TimeoutsFor(server.DeadlockTimeout)}, nil
}

func (d *soloDesk) execute(ctx context.Context, claim work.Claim) error {
	if err := d.chain.Refresh(ctx); err != nil { // what was taken away is gone all the same
		d.plane.Log.WarnContext(ctx, "the keys could not be refreshed", "error", err)
	}
	shape, err := shape.Open(ctx, d.DB, d.job, claim.Leaf, d.chain.Keyring())
	if err != nil {
		return err
	}
	x := &backfill.Executor{DB: d.DB, Shape: shape, Transform: d.transform, Limits: d.job.Spec.Limits, Size: d.size, Timeouts: d.timeouts,
		Budget: d.job.Spec.Budget, Lease: soloLease, Log: &lifecycle.Log{}, Columns: d.job.Events(), Worker: d.ranges.Worker, Tracer: d.plane.Tracer}
	return x.Execute(ctx, claim, func(c backfill.Checkpoint) {
		if d.Progress != nil && c.Rows > 0 {
			d.Progress(Progress{Job: d.job.ID, Rows: c.Rows, Total: d.job.Total})
		}
	})
}

func (d *soloDesk) transform(c shape.Column) (transform.Transform, error) {
	t, err := c.Transform(d.chain.Keyring())
	if err == nil {
		t = backfill.WithKeys(t, d.chain, d.DB)
	}
	if hook := d.Before[c.Source]; err == nil && hook != nil && !c.Reverse {
		t = transform.Before(hook, t)
	}
	return t, err
}
