package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Start creates and plans a job whose ranges have about rows rows.
func (k *Kit) Start(ctx context.Context, rows int64) {
	k.T.Helper()
	k.Job = must(k.Jobs.Create(ctx, work.Job{RequestID: uuid.NewString(), Relation: k.Relation.OID, Spec: work.Spec{
		Schema: k.Table.Schema, Table: k.Table.Name, Key: k.Key().Names(), Columns: k.Columns, Budget: k.Budget, Limits: k.Limits}}))(k.T)
	k.Job = must((&work.Planner{Jobs: k.Jobs, RangeRows: rows, HopPages: k.HopPages}).Plan(ctx, k.Job.ID, k.Relation))(k.T)
}

// Claimed starts a job with one range and claims it.
func (k *Kit) Claimed(t *testing.T) work.Claim {
	t.Helper()
	k.Start(t.Context(), 1000)
	id := testenv.One[int64](t, k.DB, `SELECT min(id) FROM cipherfleet.ranges WHERE job_id = $1`, k.Job.ID)
	claim, standing, _, err := k.Ranges.Claim(t.Context(), id)
	if err != nil || standing != work.Claimed {
		t.Fatalf("the range could not be claimed: %v, %v", standing, err)
	}
	return claim
}

// Begun starts a job with one range and leaves it claimed, with a few chunks done.
func (k *Kit) Begun(t *testing.T) work.Claim {
	t.Helper()
	k.Limits.Rows = 50
	k.Start(t.Context(), 1_000_000)
	id := testenv.One[int64](t, k.DB, `SELECT min(id) FROM cipherfleet.ranges`)
	claim, _, _, err := k.Ranges.Claim(t.Context(), id)
	check(t, err)
	x, chunks := k.Executor(t.Context(), claim.Leaf), 0
	drain := make(chan struct{})
	x.Drain = drain
	err = x.Execute(t.Context(), claim, func(backfill.Checkpoint) {
		if chunks++; chunks == 3 {
			close(drain)
		}
	})
	if !errors.Is(err, backfill.ErrDrained) {
		t.Fatalf("three chunks of a range: %v", err)
	}
	check(t, k.Ranges.Release(t.Context(), claim, ""))
	claim, standing, _, err := k.Ranges.Claim(t.Context(), id)
	if err != nil || standing != work.Claimed {
		t.Fatalf("the range could not be claimed again: %v, %v", standing, err)
	}
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET published_at = clock_timestamp() - interval '1 minute'`)
	return claim
}

// Shape opens a leaf for the kit's job.
func (k *Kit) Shape(ctx context.Context, leaf uint32) *shape.Shape {
	k.T.Helper()
	job := k.Job
	if k.Chain != nil {
		job = job.Following(k.Chain)
	}
	return must(shape.Open(ctx, k.DB.DB, must(job.Reading(ctx, k.Secrets))(k.T), leaf, k.Keyring))(k.T)
}

// Executor is one for a leaf of the kit's job.
func (k *Kit) Executor(ctx context.Context, leaf uint32) *backfill.Executor {
	k.T.Helper()
	return k.ExecutorOf(k.Shape(ctx, leaf))
}

// ExecutorOf is one for a shape.
func (k *Kit) ExecutorOf(s *shape.Shape) *backfill.Executor {
	return &backfill.Executor{DB: k.DB.DB, Shape: s, Limits: k.Job.Spec.Limits, Timeouts: k.Timeouts, Budget: k.Budget, Lease: k.Lease,
		Log: &lifecycle.Log{}, Columns: k.Job.Events(), Worker: "w1", Tracer: noop.NewTracerProvider().Tracer(""), Drain: make(chan struct{}),
		Proxy: func(ctx context.Context) (*pg.Conn, error) { return k.Through.Acquire(ctx) },
		Transform: func(c shape.Column) (transform.Transform, error) {
			if c.External.Subject != "" {
				return k.Wrap(c.Encrypter(k.Ask)), nil
			}
			t, err := c.Transform(k.Keyring)
			if err == nil && k.Chain != nil {
				t = backfill.WithKeys(t, k.Chain, k.DB.DB)
			}
			return k.Wrap(t), err
		}}
}

// Execute carries a claim to its end.
func (k *Kit) Execute(t *testing.T, claim work.Claim) error {
	t.Helper()
	return k.Executor(t.Context(), claim.Leaf).Execute(t.Context(), claim, func(backfill.Checkpoint) {})
}

// Work claims and executes every range that can be claimed now; it returns the first error of an execution.
func (k *Kit) Work(ctx context.Context) error {
	k.T.Helper()
	for _, id := range testenv.Column[int64](k.T, k.DB, `SELECT id FROM cipherfleet.ranges WHERE state = 'pending' ORDER BY md5(id::text)`) {
		claim, standing, _, err := k.Ranges.Claim(ctx, id)
		if err != nil {
			return err
		}
		if standing != work.Claimed {
			continue
		}
		if err := k.Executor(ctx, claim.Leaf).Execute(ctx, claim, func(backfill.Checkpoint) {}); err != nil {
			return errors.Join(err, k.Ranges.Release(ctx, claim, ""))
		}
	}
	return nil
}

// Finish works and sweeps until the job has ended.
func (k *Kit) Finish(ctx context.Context) work.Job {
	k.T.Helper()
	for range 100 {
		check(k.T, k.Work(ctx))
		var leaves []uint32
		for _, leaf := range k.Inspect(ctx).Leaves {
			leaves = append(leaves, leaf.OID)
		}
		k.Job = must(k.Jobs.Step(ctx, k.Job.ID, leaves))(k.T)
		if k.Job.State.Ended() {
			return k.Job
		}
		if n := testenv.One[int64](k.T, k.DB, `SELECT count(*) FROM cipherfleet.ranges WHERE state = 'pending' AND lease_until > clock_timestamp()`); n > 0 {
			k.DB.Run(k.T, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`) // what waits, waits for nothing in a test
		}
	}
	k.T.Fatal("the job does not end")
	return k.Job
}

// Done finishes the job, and demands that every one of the rows is covered.
func (k *Kit) Done(rows int64) {
	k.T.Helper()
	if job := k.Finish(k.T.Context()); job.State != work.Done {
		k.T.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(k.T.Context(), rows)
}

// Retry tries again what is in quarantine.
func (k *Kit) Retry() (work.Job, error) {
	return k.Jobs.Retry(k.T.Context(), k.Job.ID, "ada", []uint32{k.Relation.OID})
}
