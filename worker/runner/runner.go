// Package runner is the worker's role: it pulls tasks, claims the ranges they name, carries them through the engine
// and settles the tasks, until it is told to drain.
//
// A slot is one range in work; a worker has several. A desk holds what a job's ranges need: its shapes and its keys.
// The message only wakes a worker: Postgres decides whether a range may be worked on, and whether a chunk counts.
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sethvargo/go-retry"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/hint"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Runner works on ranges. All fields but Proxy, KEK and Foreign are required.
type Runner struct {
	DB    *pg.DB // room for two connections per slot, and three more
	Proxy *pg.DB // encrypting proxy in front of it: room for one connection per slot; nil: there is none
	Bus   *bus.Bus
	KEK   cell.KEK // nil: there is none, and jobs that make or open cells are left to others
	// Foreign are the keys of other systems whose values are re-encrypted. Nil: it has none, and leaves such jobs to others.
	Foreign *foreign.Keys
	Worker  string        // id in events, ranges and logs
	Build   string        // version, for the list of workers
	Slots   int           // ranges in work at once
	Lease   time.Duration // of a range
	Log     *slog.Logger
	Tracer  trace.Tracer
}

const fetchWait = 5 * time.Second

// Run works until drain ends, then finishes the chunks in hand; the end of ctx gives them up. It returns nil after a
// drain, and an error only if it cannot work at all.
func (r *Runner) Run(ctx, drain context.Context) error {
	present, leave := context.WithCancel(ctx)
	defer leave()
	keys := &keys{Runner: r}
	desk := &desk{db: r.DB, proxy: r.Proxy, keys: keys, foreign: r.Foreign, bus: r.Bus}
	ranges := &work.Ranges{DB: r.DB, Worker: r.Worker, Lease: r.Lease}
	jobs := &work.Jobs{DB: r.DB, Log: &lifecycle.Log{}}
	if err := keys.enrol(drain); err != nil {
		if drain.Err() != nil {
			return nil // told to end before it began
		}
		return err
	}
	var attendance sync.WaitGroup
	hints := make(chan struct{}, 1)
	attendance.Go(func() { hint.Listen(present, r.DB, hints, presence, r.Log) })
	attendance.Go(func() { keys.attend(present, hints) })
	attendance.Go(func() { keys.keep(present) })
	var slots errgroup.Group
	for range r.Slots {
		s := &slot{Runner: r, desk: desk, ranges: ranges, jobs: jobs, drained: drain.Done()}
		slots.Go(func() error { return s.run(ctx, drain) })
	}
	err := slots.Wait()
	leave()
	attendance.Wait()
	return err
}

// slot works on one range after the other.
type slot struct {
	*Runner
	desk    *desk
	ranges  *work.Ranges
	jobs    *work.Jobs
	drained <-chan struct{}
}

func (s *slot) run(ctx, drain context.Context) error {
	for drain.Err() == nil && ctx.Err() == nil {
		delivery, err := s.Bus.Fetch(drain, fetchWait)
		switch {
		case errors.Is(err, bus.ErrClosed):
			return fmt.Errorf("fetch a task: %w", err)
		case err != nil && drain.Err() == nil:
			s.Log.WarnContext(ctx, "no tasks for now", "error", err)
			pause(drain, time.Second)
		case delivery != nil:
			s.handle(ctx, delivery)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

const presence = 15 * time.Second // how long a worker that says nothing still counts as present

// present says in Postgres that this worker is there, and which keys it has.
func (k *keys) present(ctx context.Context) error {
	revision, err := k.revision(ctx)
	if err != nil {
		return fmt.Errorf("register the worker: %w", err)
	}
	return lifecycle.Present(ctx, k.DB, lifecycle.Lease{ID: k.Worker, Kind: lifecycle.LeaseWorker, Revision: revision, Slots: k.Slots, Build: k.Build, For: presence})
}

const enrolLongest = 30 * time.Second

// enrol waits for the coordinator's schema: a fleet starts all at once.
func (k *keys) enrol(ctx context.Context) error {
	backoff := retry.WithMaxDuration(enrolLongest, retry.WithCappedDuration(time.Second, retry.NewExponential(100*time.Millisecond)))
	return retry.Do(ctx, backoff, func(ctx context.Context) error {
		err := k.present(ctx)
		if class := pg.ClassOf(err); class == pg.ClassSchema || class == pg.ClassUnavailable {
			return retry.RetryableError(err)
		}
		return err
	})
}

func (k *keys) renew(ctx context.Context) {
	if err := k.present(ctx); err != nil && ctx.Err() == nil {
		k.Log.WarnContext(ctx, "the worker could not say that it lives", "error", err)
	}
}

// attend repeats that until ctx ends, at once when the registry is said to have moved, and then signs off.
func (k *keys) attend(ctx context.Context, hints <-chan struct{}) {
	tick := time.NewTicker(presence / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			k.renew(ctx)
		case <-hints:
			k.renew(ctx)
		case <-ctx.Done():
			bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
			defer cancel()
			if err := lifecycle.Absent(bye, k.DB, k.Worker); err != nil {
				k.Log.WarnContext(bye, "the worker could not sign off", "error", err)
			}
			return
		}
	}
}
