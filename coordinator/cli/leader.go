package cli

import (
	"context"
	"errors"
	"time"

	"github.com/sethvargo/go-retry"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
)

// leader asks the coordinator that leads, and again for a moment while none does: one takes over from another, or finds
// its way back to Postgres.
type leader struct{ bus *bus.Bus }

const (
	leaderless = 5 * time.Second // more than a standby needs to take over, as CIPHERFLEET_RECONCILE is set by default
	askAgain   = 250 * time.Millisecond
)

// Start may be repeated even after it was carried out: the request's id makes it the same job.
func (l leader) Start(ctx context.Context, r messages.StartRequest) (messages.Job, error) {
	return again(ctx, away, func(ctx context.Context) (messages.Job, error) { return l.bus.Start(ctx, r) })
}

func (l leader) Retry(ctx context.Context, r messages.RetryRequest) (messages.Job, error) {
	return again(ctx, unheard, func(ctx context.Context) (messages.Job, error) { return l.bus.Retry(ctx, r) })
}

func (l leader) Pause(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return again(ctx, unheard, func(ctx context.Context) (messages.Job, error) { return l.bus.Pause(ctx, r) })
}

func (l leader) Resume(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return again(ctx, unheard, func(ctx context.Context) (messages.Job, error) { return l.bus.Resume(ctx, r) })
}

func (l leader) Cancel(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return again(ctx, unheard, func(ctx context.Context) (messages.Job, error) { return l.bus.Cancel(ctx, r) })
}

func again(ctx context.Context, passes func(error) bool, ask func(context.Context) (messages.Job, error)) (job messages.Job, err error) {
	err = retry.Do(ctx, retry.WithMaxDuration(leaderless, retry.NewConstant(askAgain)), func(ctx context.Context) (err error) {
		if job, err = ask(ctx); err != nil && passes(err) {
			return retry.RetryableError(err)
		}
		return err
	})
	return job, err
}

// unheard says that nobody has begun with the request.
func unheard(err error) bool {
	var problem *messages.Problem
	return errors.Is(err, bus.ErrNoCoordinator) || errors.As(err, &problem) && problem.Code == messages.CodeBusy
}

// away says that the coordinator may answer in a moment.
func away(err error) bool {
	var problem *messages.Problem
	return unheard(err) || errors.As(err, &problem) && problem.Code == messages.CodeUnavailable
}
