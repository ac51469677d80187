package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// formation is a leading coordinator with a job over public.items, and no worker yet.
type formation struct {
	t     *testing.T
	db    *testenv.DB
	queue *bus.Bus
	kek   cell.KEK
	plane *control.Plane
	job   messages.Job
}

func lead(t *testing.T) *formation {
	t.Helper()
	return leadCatchingUp(t, 0)
}

// leadCatchingUp is the same with a coordinator that sweeps again what becomes uncovered after the job.
func leadCatchingUp(t *testing.T, every time.Duration) *formation {
	t.Helper()
	ctx := t.Context()
	f := &formation{t: t, db: testenv.Database(t)}
	f.db.Run(t, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 3000) i`)
	path := filepath.Join(t.TempDir(), "kek.json")
	check(t, kms.CreateFile(path))
	var err error
	f.kek, err = kms.Open(ctx, "file:"+path, "")
	check(t, err)
	server := testenv.NATS(t)
	f.queue, err = bus.Connect(ctx, bus.Config{URL: server.URL, TokenFile: server.TokenFile, Name: "test"})
	check(t, err)
	t.Cleanup(f.queue.Close)
	f.plane = control.New(control.Plane{DB: f.db.DB, Bus: f.queue, KEK: f.kek, AckWait: 2 * time.Second, Reconcile: 100 * time.Millisecond,
		RangeRows: 1000, CatchUp: every, Log: silent(), Tracer: noop.NewTracerProvider().Tracer("")})
	leading, depose := context.WithCancel(ctx)
	serving, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- f.plane.LeadOnce(leading, func() { close(serving) }) }()
	t.Cleanup(func() {
		depose()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	<-serving
	f.job, err = f.plane.Start(ctx, messages.StartRequest{RequestID: uuid.NewString(), Schema: "public", Table: "items", Prepare: true,
		Columns: []messages.ColumnRequest{{Source: "secret", Target: "sealed"}}})
	check(t, err)
	return f
}

func silent() *slog.Logger { return slog.New(slog.NewJSONHandler(io.Discard, nil)) }

// worker runs a worker until stop is called, which drains it and waits.
func (f *formation) worker(name string) (stop func()) {
	f.t.Helper()
	drain, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	r := &runner.Runner{DB: f.db.DB, Bus: f.queue, KEK: f.kek, Worker: name, Slots: 1, Lease: 3 * time.Second,
		Log: silent(), Tracer: noop.NewTracerProvider().Tracer("")}
	go func() { ended <- r.Run(context.Background(), drain) }()
	return func() {
		end()
		if err := <-ended; err != nil {
			f.t.Error(err)
		}
	}
}

// await waits until a query says true.
func (f *formation) await(what, sql string, args ...any) {
	f.t.Helper()
	testenv.Eventually(f.t, time.Minute, func() error {
		if !testenv.One[bool](f.t, f.db, sql, args...) {
			return fmt.Errorf("%s: not yet", what)
		}
		return nil
	})
}

const ranges = 4 // three of a thousand rows each, and what may come behind them

func (f *formation) offered() {
	f.t.Helper()
	f.await("the ranges are offered", `SELECT count(*) = $1 FROM cipherfleet.ranges WHERE published_at IS NOT NULL`, ranges)
}

func (f *formation) done() {
	f.t.Helper()
	f.await("the job ends", `SELECT state = 'done' FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID)
	if n := testenv.One[int64](f.t, f.db, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); n != 0 {
		f.t.Errorf("%d rows are uncovered", n)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestATaskStaysInTheQueueUntilItsRangeIsCommitted(t *testing.T) {
	t.Parallel()
	f := lead(t)
	f.offered()
	gate, err := f.db.Begin(t.Context())
	check(t, err)
	_, err = gate.Exec(t.Context(), `LOCK TABLE cipherfleet.events IN EXCLUSIVE MODE`) // nobody's checkpoint gets through
	check(t, err)
	stop := f.worker("w1")
	defer stop()
	f.await("a chunk waits for its checkpoint", `SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`)
	waiting, held, err := f.queue.Pending(t.Context())
	check(t, err)
	if open := testenv.One[int](t, f.db, `SELECT count(*) FROM cipherfleet.ranges WHERE state = 'pending'`); waiting+held < open || open < ranges-1 {
		t.Errorf("%d tasks wait and %d are held while %d ranges are not committed", waiting, held, open)
	}
	check(t, gate.Commit(t.Context()))
	f.done()
	testenv.Eventually(t, time.Minute, func() error {
		waiting, held, err := f.queue.Pending(t.Context())
		if err == nil && waiting+held != 0 {
			err = fmt.Errorf("%d tasks wait and %d are held after the job's end", waiting, held)
		}
		return err
	})
}

func TestADrainedWorkerGivesItsRangeBackAtOnce(t *testing.T) {
	t.Parallel()
	f := lead(t)
	f.offered()
	gate, err := f.db.Begin(t.Context())
	check(t, err)
	_, err = gate.Exec(t.Context(), `LOCK TABLE cipherfleet.events IN EXCLUSIVE MODE`)
	check(t, err)
	stop := f.worker("w1")
	f.await("a range is claimed", `SELECT count(*) > 0 FROM cipherfleet.ranges WHERE owner IS NOT NULL`)
	drained := make(chan struct{})
	go func() {
		stop()
		close(drained)
	}()
	check(t, gate.Commit(t.Context()))
	<-drained
	if n := testenv.One[int64](t, f.db, `SELECT count(*) FROM cipherfleet.ranges WHERE state = 'pending' AND lease_until > clock_timestamp() AND owner IS NOT NULL`); n != 0 {
		t.Errorf("%d ranges are still leased by a worker that drained", n)
	}
	if n := testenv.One[int64](t, f.db, `SELECT count(*) FROM cipherfleet.workers`); n != 0 {
		t.Errorf("%d workers are still listed", n)
	}
	defer f.worker("w2")()
	f.done()
}

func TestATaskOfAPausedJobIsPutBackAndOfferedAgainAfterTheResume(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := lead(t)
	f.offered()
	_, err := f.plane.Pause(ctx, messages.JobRequest{Job: f.job.ID})
	check(t, err)
	defer f.worker("w1")()
	testenv.Eventually(t, time.Minute, func() error {
		waiting, held, err := f.queue.Pending(ctx)
		if err == nil && waiting+held != 0 {
			err = fmt.Errorf("%d tasks of a paused job wait and %d are held", waiting, held)
		}
		return err
	})
	if n := testenv.One[int64](t, f.db, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`); n != 0 {
		t.Errorf("%d rows were written for a paused job", n)
	}
	_, err = f.plane.Resume(ctx, messages.JobRequest{Job: f.job.ID})
	check(t, err)
	f.done()
}

func TestAJobWhoseTableChangedFailsAndSaysWhat(t *testing.T) {
	t.Parallel()
	f := lead(t)
	f.offered()
	f.db.Run(t, `ALTER TABLE public.items RENAME secret TO hidden`)
	defer f.worker("w1")()
	f.await("the job fails", `SELECT state = 'failed' AND stopped_by LIKE '%secret%' FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID)
	f.db.Run(t, `INSERT INTO public.items (id, hidden) VALUES (9999, 'x')`)
}

func TestAnotherWorkerTakesOverWhenALeaseRunsOut(t *testing.T) {
	t.Parallel()
	f := lead(t)
	f.offered()
	// A worker that claimed everything and was killed: its leases run, its messages are held by nobody.
	f.db.Run(t, `UPDATE cipherfleet.ranges SET epoch = epoch + 1, owner = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 second'`)
	defer f.worker("w2")()
	f.done()
}
