package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
)

const (
	settleTime   = 5 * time.Second // for an ack or a release, also while draining
	maxAttempts  = 5               // of a range whose error nobody expects to pass; then its job fails
	longestLease = time.Minute     // most that a task is put off for somebody else's lease
)

// handle carries one task to its end and settles it.
func (s *slot) handle(running context.Context, d *bus.Delivery) {
	ctx, span := d.Span(running)
	defer span.End()
	claim, standing, wait, err := s.ranges.Claim(ctx, d.Task.Range)
	if err != nil {
		s.nak(ctx, d, bus.Backoff(d.Attempt), "the range could not be claimed", err)
		return
	}
	switch standing {
	case work.Closed:
		s.ack(ctx, d)
	case work.Leased:
		s.nak(ctx, d, min(wait, longestLease), "", nil)
	case work.Halted:
		s.putBack(ctx, d)
	case work.Claimed:
		span.SetAttributes(attribute.Int("cipherfleet.attempt", claim.Attempts), attribute.Int64("cipherfleet.lease_epoch", claim.Epoch))
		err := s.work(ctx, d, claim)
		if err != nil {
			span.SetStatus(codes.Error, backfill.ErrorClass(err))
		}
		s.settle(ctx, d, claim, err)
	}
}

// putBack takes a task off the queue whose job does not run now; the coordinator offers it again when it does.
func (s *slot) putBack(ctx context.Context, d *bus.Delivery) {
	if err := s.ranges.Unpublish(ctx, d.Task.Range); err != nil {
		s.nak(ctx, d, bus.Backoff(d.Attempt), "the range could not be put back", err)
		return
	}
	s.ack(ctx, d)
}

// work executes a claimed range while heartbeats keep its message and its lease.
func (s *slot) work(ctx context.Context, d *bus.Delivery, claim work.Claim) error {
	executor, done, err := s.desk.executor(ctx, claim)
	if err != nil {
		return err
	}
	defer done()
	executor.Lease, executor.Worker, executor.Tracer, executor.Drain = s.Lease, s.Worker, s.Tracer, s.drained
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		s.beat(ctx, d, claim, cancel)
	}()
	err = executor.Execute(ctx, claim, func(c backfill.Checkpoint) { s.emit(ctx, claim, c) })
	lost := errors.Is(context.Cause(ctx), work.ErrLost)
	cancel(nil)
	<-beats
	if err != nil && lost {
		return work.ErrLost
	}
	return err
}

// beat gives signs of life: to the queue for the message, to Postgres for the lease.
func (s *slot) beat(ctx context.Context, d *bus.Delivery, claim work.Claim, giveUp context.CancelCauseFunc) {
	message, lease := time.NewTicker(d.Heartbeat), time.NewTicker(s.Lease/3)
	defer message.Stop()
	defer lease.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-message.C:
			if err := d.InProgress(); err != nil {
				s.Log.DebugContext(ctx, "no sign of life reached the queue", "range", claim.ID, "error", err)
			}
		case <-lease.C:
			if err := s.ranges.Renew(ctx, claim); errors.Is(err, work.ErrLost) {
				giveUp(work.ErrLost)
				return
			}
		}
	}
}

func (s *slot) emit(ctx context.Context, claim work.Claim, c backfill.Checkpoint) {
	progress := messages.Progress{Kind: messages.KindCheckpoint, Job: claim.Job, Range: claim.ID, Rows: c.Rows, Skipped: c.Skipped, Worker: s.Worker, At: time.Now()}
	if err := s.Bus.Emit(ctx, progress); err != nil {
		s.Log.DebugContext(ctx, "progress was not told", "range", claim.ID, "error", err)
	}
}

// settle decides what becomes of a task after its range was worked on.
func (s *slot) settle(ctx context.Context, d *bus.Delivery, claim work.Claim, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	class := backfill.ErrorClass(err)
	switch {
	case err == nil:
		s.ack(ctx, d)
	case errors.Is(err, work.ErrLost):
		s.nak(ctx, d, s.Lease, "", nil) // whoever has it settles it; a paused job's task is put back then
	case class == "drained":
		s.release(ctx, claim, "")
		s.nak(ctx, d, 0, "", nil)
	case errors.Is(err, keyspace.ErrChanged) && s.departed(ctx, claim):
		s.ack(ctx, d)
	case errors.Is(err, keyspace.ErrChanged), errors.Is(err, backfill.ErrQuarantineFull):
		s.fail(ctx, d, claim, s.desk.reason(ctx, claim, err))
	case keyless(err):
		s.desk.forget(claim.Job)
		s.fail(ctx, d, claim, err.Error())
	case backfill.Retryable(err) || claim.Attempts < maxAttempts:
		s.desk.forget(claim.Job)
		s.release(ctx, claim, class)
		s.nak(ctx, d, bus.Backoff(claim.Attempts), "the range will be tried again", err)
	default:
		if err := d.Bury(ctx, class, claim.Attempts); err != nil {
			s.Log.ErrorContext(ctx, "the dead letter was not stored", "range", claim.ID, "error", err)
		}
		s.fail(ctx, nil, claim, fmt.Sprintf("range %d failed %d times: %s", claim.ID, claim.Attempts, backfill.Reason(err)))
	}
}

// departed says whether the claim's partition is no longer one of the table, and closes its ranges if so.
func (s *slot) departed(ctx context.Context, claim work.Claim) bool {
	how, err := s.jobs.Depart(ctx, claim.Job, claim.Leaf)
	switch {
	case err != nil:
		s.Log.WarnContext(ctx, "what became of a partition is not known yet", "job", claim.Job, "range", claim.ID, "error", err)
		return false
	case how == work.Stays:
		return false
	}
	hint := "its rows are gone with it"
	if how == work.Detached {
		hint = "rows of it that were not encrypted by then still are not: run backfill on that table, or attach it again"
	}
	s.Log.WarnContext(ctx, "a partition was "+string(how)+"; its ranges are closed, the job goes on", "job", claim.Job, "leaf", claim.Leaf, "hint", hint)
	s.desk.forget(claim.Job)
	return true
}

// fail ends the job and takes the task off the queue.
func (s *slot) fail(ctx context.Context, d *bus.Delivery, claim work.Claim, reason string) {
	s.Log.ErrorContext(ctx, "the job cannot go on", "job", claim.Job, "range", claim.ID, "reason", reason)
	s.desk.forget(claim.Job)
	if _, err := s.jobs.Fail(ctx, claim.Job, reason); err != nil && !errors.Is(err, work.ErrState) {
		s.Log.ErrorContext(ctx, "the job's end was not recorded", "job", claim.Job, "error", err)
	}
	if d != nil {
		s.ack(ctx, d)
	}
}

func (s *slot) release(ctx context.Context, claim work.Claim, class string) {
	if err := s.ranges.Release(ctx, claim, class); err != nil {
		s.Log.WarnContext(ctx, "the range stays leased until its lease ends", "range", claim.ID, "error", err)
	}
}

// ack comes after the commit, never before; if it fails the task comes back and its range is found closed.
func (s *slot) ack(ctx context.Context, d *bus.Delivery) {
	if err := d.Ack(ctx); err != nil {
		s.Log.WarnContext(ctx, "the task was not acknowledged", "range", d.Task.Range, "error", err)
	}
}

func (s *slot) nak(ctx context.Context, d *bus.Delivery, delay time.Duration, why string, cause error) {
	if cause != nil {
		s.Log.WarnContext(ctx, why, "range", d.Task.Range, "error", cause)
		trace.SpanFromContext(ctx).SetStatus(codes.Error, backfill.ErrorClass(cause))
	}
	if err := d.Nak(delay); err != nil {
		s.Log.DebugContext(ctx, "the task was not handed back", "range", d.Task.Range, "error", err)
	}
}
