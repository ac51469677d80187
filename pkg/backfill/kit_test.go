package backfill_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// kit is one table on its way: prepared by hand, so that the engine is tested without the control plane above it.
type kit struct {
	t        testing.TB
	db       *testenv.DB
	jobs     *backfill.Jobs
	ranges   *backfill.Ranges
	keyring  *cell.Keyring
	relation pg.Relation
	job      backfill.Job
	column   backfill.SpecColumn
	limits   backfill.Limits
	lease    time.Duration
	timeouts backfill.Timeouts
	wrap     func(transform.Transform) transform.Transform
}

type option func(*kit)

// prepare runs the rungs before a job on public.items, which the SQL must create with a column "secret".
func prepare(t testing.TB, ctx context.Context, sql string, options ...option) *kit {
	t.Helper()
	k := &kit{t: t, lease: 10 * time.Second, timeouts: backfill.Timeouts{Lock: 400 * time.Millisecond, Statement: 800 * time.Millisecond},
		wrap: func(inner transform.Transform) transform.Transform { return inner }}
	for _, o := range options {
		o(k)
	}
	if k.db == nil {
		k.db = testenv.Database(t)
	}
	k.db.Run(t, sql)
	relation := must(pg.Inspect(ctx, k.db, "public", "items"))(t)
	key, ok := relation.UsableKey()
	if !ok {
		t.Fatalf("items has no usable key: %v", relation.Keys)
	}
	source, _ := relation.Column("secret")
	k.db.Run(t, `ALTER TABLE public.items ADD COLUMN sealed bytea`)
	relation = must(pg.Inspect(ctx, k.db, "public", "items"))(t)
	target, _ := relation.Column("sealed")
	path := filepath.Join(t.TempDir(), "kek.json")
	check(t, kms.CreateFile(path))
	kek := must(kms.Open(ctx, "file:"+path, ""))(t)
	codec := must(cell.CodecFor(cell.TypeInfo{OID: source.Base.OID, Name: source.Base.Name, Kind: source.Base.Kind[0], Category: source.Base.Category[0]}))(t)
	var column lifecycle.Column
	check(t, k.db.InTx(ctx, func(tx pg.Tx) (err error) {
		column, err = lifecycle.RegisterColumn(ctx, tx, lifecycle.Column{Relid: relation.OID, SourceNum: source.Attnum, TargetNum: target.Attnum,
			Table: relation.Table(), Source: "secret", Target: "sealed", Type: source.Type, Collation: source.Collation})
		return err
	}))
	scheme := must(lifecycle.ActivateScheme(ctx, k.db.DB, kek, cell.Scheme{Column: column.ID, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: codec,
		RowBound: true, Padding: codec.DefaultPadding()}))(t)
	c := ddl.Column{ID: column.ID, Table: relation.Table(), Source: "secret", Target: "sealed", Key: key.Names()}
	for _, step := range []ddl.Step{c.Check(), c.Validate(), c.Capture()} {
		for _, statement := range step.Do {
			k.db.Run(t, statement)
		}
	}
	k.keyring = must(lifecycle.LoadKeyring(ctx, k.db, kek))(t)
	k.column = backfill.SpecColumn{ID: column.ID, Source: "secret", Target: "sealed", SourceAttnum: source.Attnum, TargetAttnum: target.Attnum,
		Scheme: scheme.Number, LogTable: "public.items", LogColumn: "secret"}
	k.jobs = &backfill.Jobs{DB: k.db.DB, Log: &lifecycle.Log{}}
	k.ranges = &backfill.Ranges{DB: k.db.DB, Worker: "w1", Lease: k.lease}
	k.relation = must(pg.Inspect(ctx, k.db, "public", "items"))(t)
	k.event(ctx, lifecycle.KindSchemaAdded)
	k.event(ctx, lifecycle.KindDualWriting)
	return k
}

func (k *kit) event(ctx context.Context, kind lifecycle.Kind) {
	k.t.Helper()
	check(k.t, k.db.InTx(ctx, func(tx pg.Tx) error {
		_, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: "public.items", Column: "secret", Kind: kind})
		return err
	}))
}

// start creates and plans a job whose ranges have about rows rows.
func (k *kit) start(ctx context.Context, rows int64) {
	k.t.Helper()
	key, _ := k.relation.UsableKey()
	k.job = must(k.jobs.Create(ctx, backfill.Job{RequestID: uuid.NewString(), Relation: k.relation.OID, Spec: backfill.Spec{
		Schema: "public", Table: "items", Key: key.Names(), Columns: []backfill.SpecColumn{k.column}, Budget: 100, Limits: k.limits}}))(k.t)
	k.job = must((&backfill.Planner{Jobs: k.jobs, RangeRows: rows}).Plan(ctx, k.job.ID, k.relation))(k.t)
}

func (k *kit) executor(ctx context.Context, leaf uint32) *backfill.Executor {
	k.t.Helper()
	shape := must(backfill.OpenShape(ctx, k.db.DB, k.job, leaf, k.keyring))(k.t)
	return &backfill.Executor{DB: k.db.DB, Shape: shape, Limits: k.job.Spec.Limits, Timeouts: k.timeouts, Budget: 100, Lease: k.lease,
		Log: &lifecycle.Log{}, Columns: k.job.Events(), Worker: "w1", Tracer: noop.NewTracerProvider().Tracer(""), Drain: make(chan struct{}),
		Transform: func(c backfill.Column) (transform.Transform, error) {
			t, err := transform.NewEncrypt(k.keyring, c.Scheme)
			return k.wrap(t), err
		}}
}

// work claims and executes every range that can be claimed now; it returns the first error of an execution.
func (k *kit) work(ctx context.Context) error {
	k.t.Helper()
	for _, id := range testenv.Column[int64](k.t, k.db, `SELECT id FROM cipherfleet.ranges WHERE state = 'pending' ORDER BY md5(id::text)`) {
		claim, standing, _, err := k.ranges.Claim(ctx, id)
		if err != nil {
			return err
		}
		if standing != backfill.Claimed {
			continue
		}
		if err := k.executor(ctx, claim.Leaf).Execute(ctx, claim, func(backfill.Checkpoint) {}); err != nil {
			return errors.Join(err, k.ranges.Release(ctx, claim, ""))
		}
	}
	return nil
}

// finish works and sweeps until the job has ended.
func (k *kit) finish(ctx context.Context) backfill.Job {
	k.t.Helper()
	for range 100 {
		check(k.t, k.work(ctx))
		relation := must(pg.Inspect(ctx, k.db, "public", "items"))(k.t)
		var leaves []uint32
		for _, leaf := range relation.Leaves {
			leaves = append(leaves, leaf.OID)
		}
		k.job = must(k.jobs.Step(ctx, k.job.ID, leaves))(k.t)
		if k.job.State.Ended() {
			return k.job
		}
		if n := testenv.One[int64](k.t, k.db, `SELECT count(*) FROM cipherfleet.ranges WHERE state = 'pending' AND lease_until > clock_timestamp()`); n > 0 {
			k.db.Run(k.t, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`) // what waits, waits for nothing in a test
		}
	}
	k.t.Fatal("the job does not end")
	return k.job
}

// verify decrypts every row of every leaf and compares it with its source.
func (k *kit) verify(ctx context.Context) backfill.Report {
	k.t.Helper()
	reports := make([]backfill.Report, 1)
	for _, leaf := range must(pg.Inspect(ctx, k.db, "public", "items"))(k.t).Leaves {
		shape := must(backfill.OpenShape(ctx, k.db.DB, k.job, leaf.OID, k.keyring))(k.t)
		v := &backfill.Verifier{DB: k.db.DB, Shape: shape, Keyring: k.keyring}
		check(k.t, v.Verify(ctx, reports, func(int) {}))
	}
	return reports[0]
}

// proven demands that every row is covered, and that rows there are as many as wanted.
func (k *kit) proven(ctx context.Context, rows int64) {
	k.t.Helper()
	if r := k.verify(ctx); !r.Proven() || r.Rows != rows {
		k.t.Errorf("verification of %d rows found %+v", rows, r)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}
