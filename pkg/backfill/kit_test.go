package backfill_test

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	readers "github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
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
	table    pg.Table
	sources  []string // of the columns in work; each has a target of the same name with "_sealed" added
	jobs     *work.Jobs
	ranges   *work.Ranges
	keyring  *cell.Keyring
	kek      cell.KEK
	chain    *lifecycle.Keychain // nil: keyring alone; else tenants have keys, and what is unknown is looked up
	relation pg.Relation
	job      work.Job
	columns  []work.Column
	limits   work.Limits
	budget   int
	hopPages int64
	lease    time.Duration
	timeouts backfill.Timeouts
	wrap     func(transform.Transform) transform.Transform

	origin  *messages.Origin // of the sources, if somebody else encrypted them
	secrets *readers.Keys    // by which they are opened

	foreign ddl.Column               // payload and target type of columns that somebody else makes
	ask     shape.Ask                // who that is
	proxy   *testenv.EncryptingProxy // or who that is instead; nil: nobody
	through *pg.DB                   // the database as it is seen through it
}

type option func(*kit)

// on names another table than public.items, and other columns than "secret" if any are given.
func on(table pg.Table, sources ...string) option {
	return func(k *kit) {
		k.table = table
		if len(sources) > 0 {
			k.sources = sources
		}
	}
}

// prepare runs the rungs before a job on public.items, which the SQL must create with a column "secret".
func prepare(t testing.TB, ctx context.Context, sql string, options ...option) *kit {
	t.Helper()
	k := &kit{t: t, table: pg.Table{Schema: "public", Name: "items"}, sources: []string{"secret"}, budget: 100, lease: 10 * time.Second,
		timeouts: backfill.Timeouts{Lock: 400 * time.Millisecond, Statement: 5 * time.Second},
		wrap:     func(inner transform.Transform) transform.Transform { return inner }}
	for _, o := range options {
		o(k)
	}
	if k.db == nil {
		k.db = testenv.Database(t)
	}
	k.db.Run(t, sql)
	for _, source := range k.sources {
		k.db.Run(t, "ALTER TABLE "+k.table.SQL()+" ADD COLUMN "+pg.Ident(k.target(source))+" "+cmp.Or(k.foreign.TargetType, "bytea"))
	}
	k.relation = k.inspect(ctx)
	path := filepath.Join(t.TempDir(), "kek.json")
	check(t, kms.CreateFile(path))
	kek := must(kms.Open(ctx, "file:"+path, ""))(t)
	k.kek = kek
	for _, source := range k.sources {
		k.columns = append(k.columns, k.register(ctx, kek, source))
	}
	k.keyring = must(lifecycle.LoadKeyring(ctx, k.db, kek))(t)
	k.jobs = &work.Jobs{DB: k.db.DB, Log: &lifecycle.Log{}}
	k.ranges = &work.Ranges{DB: k.db.DB, Worker: "w1", Lease: k.lease}
	k.relation = k.inspect(ctx)
	return k
}

// target is the name of a source's target.
func (k *kit) target(source string) string {
	if source == "secret" {
		return "sealed"
	}
	return source + "_sealed"
}

func (k *kit) inspect(ctx context.Context) pg.Relation {
	k.t.Helper()
	return must(pg.Inspect(ctx, k.db, k.table.Schema, k.table.Name))(k.t)
}

func (k *kit) key() pg.Key {
	k.t.Helper()
	key, ok := k.relation.UsableKey()
	if !ok {
		k.t.Fatalf("%s has no usable key: %v", k.table, k.relation.Keys)
	}
	return key
}

// register runs one column's rungs: registry, scheme, check, capture, and the events of its phases.
func (k *kit) register(ctx context.Context, kek cell.KEK, name string) work.Column {
	k.t.Helper()
	source, _ := k.relation.Column(name)
	target, _ := k.relation.Column(k.target(name))
	var column lifecycle.Column
	check(k.t, k.db.InTx(ctx, func(tx pg.Tx) (err error) {
		column, err = lifecycle.RegisterColumn(ctx, tx, lifecycle.Column{Relid: k.relation.OID, SourceNum: source.Attnum, TargetNum: target.Attnum,
			Table: k.table, Source: source.Name, Target: target.Name, Type: source.Type, Collation: source.Collation})
		return err
	}))
	var scheme cell.Scheme
	c, external, origin := k.foreign, work.External{}, k.originOf()
	if c.Payload == ddl.PayloadCell {
		codec := must(cell.CodecFor(keyspace.TypeInfo(source.Base)))(k.t)
		if origin != nil {
			codec = must(origin.Codec())(k.t)
		}
		scheme = must(lifecycle.ActivateScheme(ctx, k.db.DB, kek, cell.Scheme{Column: column.ID, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: codec,
			RowBound: true, Padding: codec.DefaultPadding()}))(k.t)
	} else {
		external = work.External{Subject: "encrypt.items", Key: "items/" + name, Table: k.table, Target: target.Name}
		if k.proxy != nil {
			external.Subject, external.Key, external.Proxy = "", "", true
		}
	}
	c.ID, c.Table, c.Source, c.Target, c.Key = column.ID, k.table, source.Name, target.Name, k.key().Names()
	c.Beside = origin.Names()
	c.BytesInBytes = source.Base.Name == "bytea" && c.Payload == ddl.PayloadBytea
	for _, step := range []ddl.Step{c.Check(), c.Validate(), c.Capture()} {
		for _, statement := range step.Do {
			k.db.Run(k.t, statement)
		}
	}
	spec := work.Column{ID: column.ID, Source: source.Name, Target: target.Name, SourceAttnum: source.Attnum, TargetAttnum: target.Attnum,
		Scheme: scheme.Number, External: external, Origin: origin, LogTable: k.table.String(), LogColumn: source.Name}
	check(k.t, k.db.InTx(ctx, func(tx pg.Tx) error {
		for _, kind := range []lifecycle.Kind{lifecycle.KindSchemaAdded, lifecycle.KindDualWriting} {
			if _, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: spec.LogTable, Column: spec.LogColumn, Kind: kind}); err != nil {
				return err
			}
		}
		return nil
	}))
	return spec
}

// originOf is the kit's origin with its columns; nil: its sources are plaintext.
func (k *kit) originOf() *work.Origin {
	k.t.Helper()
	if k.origin == nil {
		return nil
	}
	o := &work.Origin{Origin: *k.origin}
	for _, name := range o.Origin.Columns() {
		column, found := k.relation.Column(name)
		if !found {
			k.t.Fatalf("there is no column %s", name)
		}
		o.Beside = append(o.Beside, ddl.Input{Name: name, Attnum: column.Attnum})
	}
	return o
}

// start creates and plans a job whose ranges have about rows rows.
func (k *kit) start(ctx context.Context, rows int64) {
	k.t.Helper()
	k.job = must(k.jobs.Create(ctx, work.Job{RequestID: uuid.NewString(), Relation: k.relation.OID, Spec: work.Spec{
		Schema: k.table.Schema, Table: k.table.Name, Key: k.key().Names(), Columns: k.columns, Budget: k.budget, Limits: k.limits}}))(k.t)
	k.job = must((&work.Planner{Jobs: k.jobs, RangeRows: rows, HopPages: k.hopPages}).Plan(ctx, k.job.ID, k.relation))(k.t)
}

func (k *kit) shape(ctx context.Context, leaf uint32) *shape.Shape {
	k.t.Helper()
	job := k.job
	if k.chain != nil {
		job = job.Following(k.chain)
	}
	return must(shape.Open(ctx, k.db.DB, must(job.Reading(ctx, k.secrets))(k.t), leaf, k.keyring))(k.t)
}

func (k *kit) executor(ctx context.Context, leaf uint32) *backfill.Executor {
	k.t.Helper()
	return k.executorOf(k.shape(ctx, leaf))
}

func (k *kit) executorOf(s *shape.Shape) *backfill.Executor {
	return &backfill.Executor{DB: k.db.DB, Shape: s, Limits: k.job.Spec.Limits, Timeouts: k.timeouts, Budget: k.budget, Lease: k.lease,
		Log: &lifecycle.Log{}, Columns: k.job.Events(), Worker: "w1", Tracer: noop.NewTracerProvider().Tracer(""), Drain: make(chan struct{}),
		Proxy: func(ctx context.Context) (*pg.Conn, error) { return k.through.Acquire(ctx) },
		Transform: func(c shape.Column) (transform.Transform, error) {
			if c.External.Subject != "" {
				return k.wrap(c.Encrypter(k.ask)), nil
			}
			t, err := c.Transform(k.keyring)
			if err == nil && k.chain != nil {
				t = backfill.WithKeys(t, k.chain, k.db.DB)
			}
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
		if standing != work.Claimed {
			continue
		}
		if err := k.executor(ctx, claim.Leaf).Execute(ctx, claim, func(backfill.Checkpoint) {}); err != nil {
			return errors.Join(err, k.ranges.Release(ctx, claim, ""))
		}
	}
	return nil
}

// finish works and sweeps until the job has ended.
func (k *kit) finish(ctx context.Context) work.Job {
	k.t.Helper()
	for range 100 {
		check(k.t, k.work(ctx))
		var leaves []uint32
		for _, leaf := range k.inspect(ctx).Leaves {
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

// verify decrypts every row of every leaf and compares it with its source: one report per column.
func (k *kit) verify(ctx context.Context) []proof.Report {
	k.t.Helper()
	reports := make([]proof.Report, len(k.columns))
	for _, leaf := range k.inspect(ctx).Leaves {
		v := &proof.Verifier{DB: k.db.DB, Shape: k.shape(ctx, leaf.OID), Keyring: k.keyring}
		check(k.t, v.Verify(ctx, reports, func(int) {}))
	}
	return reports
}

// proven demands that every row is covered in every column, and that rows there are as many as wanted.
func (k *kit) proven(ctx context.Context, rows int64) {
	k.t.Helper()
	for i, r := range k.verify(ctx) {
		if !r.Proven() || r.Rows != rows {
			k.t.Errorf("verification of %q in %d rows found %+v", k.columns[i].Source, rows, r)
		}
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
