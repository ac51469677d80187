package engine

import (
	"cmp"
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
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

// Kit is one table on its way: prepared by hand, so that the engine is tested without the control plane above it.
type Kit struct {
	T        testing.TB
	DB       *testenv.DB
	Table    pg.Table
	Sources  []string // of the columns in work; each has a target of the same name with "_sealed" added
	Jobs     *work.Jobs
	Ranges   *work.Ranges
	Keyring  *cell.Keyring
	KEK      cell.KEK
	Chain    *lifecycle.Keychain // nil: keyring alone; else tenants have keys, and what is unknown is looked up
	Relation pg.Relation
	Job      work.Job
	Columns  []work.Column
	Limits   work.Limits
	Budget   int
	HopPages int64
	Lease    time.Duration
	Timeouts backfill.Timeouts
	Wrap     func(transform.Transform) transform.Transform

	Origin  *messages.Origin // of the sources, if somebody else encrypted them
	Secrets *readers.Keys    // by which they are opened

	Foreign ddl.Column               // payload and target type of columns that somebody else makes
	Ask     shape.Ask                // who that is
	Proxy   *testenv.EncryptingProxy // or who that is instead; nil: nobody
	Through *pg.DB                   // the database as it is seen through it
	Nulls   cell.Nulls               // what the columns' first scheme does with NULL
}

// Option changes a kit before it is prepared.
type Option func(*Kit)

// On names another table than public.items, and other columns than "secret" if any are given.
func On(table pg.Table, sources ...string) Option {
	return func(k *Kit) {
		k.Table = table
		if len(sources) > 0 {
			k.Sources = sources
		}
	}
}

// Prepare runs the rungs before a job on public.items, which the SQL must create with a column "secret".
func Prepare(t testing.TB, ctx context.Context, sql string, options ...Option) *Kit {
	t.Helper()
	k := &Kit{T: t, Table: pg.Table{Schema: "public", Name: "items"}, Sources: []string{"secret"}, Budget: 100, Lease: time.Minute,
		Timeouts: backfill.Timeouts{Lock: 400 * time.Millisecond, Statement: 5 * time.Second},
		Wrap:     func(inner transform.Transform) transform.Transform { return inner }}
	for _, o := range options {
		o(k)
	}
	if k.DB == nil {
		k.DB = testenv.Database(t)
	}
	k.DB.Run(t, sql)
	for _, source := range k.Sources {
		k.DB.Run(t, "ALTER TABLE "+k.Table.SQL()+" ADD COLUMN "+pg.Ident(k.Target(source))+" "+cmp.Or(k.Foreign.TargetType, "bytea"))
	}
	k.Relation = k.Inspect(ctx)
	path := filepath.Join(t.TempDir(), "kek.json")
	check(t, kms.CreateFile(path))
	kek := must(kms.Open(ctx, "file:"+path, ""))(t)
	k.KEK = kek
	for _, source := range k.Sources {
		k.Columns = append(k.Columns, k.register(ctx, kek, source))
	}
	k.Keyring = must(testenv.LoadKeyring(ctx, k.DB, kek))(t)
	k.Jobs = &work.Jobs{DB: k.DB.DB, Log: &lifecycle.Log{}}
	k.Ranges = &work.Ranges{DB: k.DB.DB, Worker: "w1", Lease: k.Lease}
	k.Relation = k.Inspect(ctx)
	return k
}

// Target is the name of a source's target.
func (k *Kit) Target(source string) string {
	if source == "secret" {
		return "sealed"
	}
	return source + "_sealed"
}

// Inspect looks at the table as it is now.
func (k *Kit) Inspect(ctx context.Context) pg.Relation {
	k.T.Helper()
	return must(pg.Inspect(ctx, k.DB, k.Table.Schema, k.Table.Name))(k.T)
}

// Key is the key by which the table is walked.
func (k *Kit) Key() pg.Key {
	k.T.Helper()
	key, ok := k.Relation.UsableKey()
	if !ok {
		k.T.Fatalf("%s has no usable key: %v", k.Table, k.Relation.Keys)
	}
	return key
}

// register runs one column's rungs: registry, scheme, check, capture, and the events of its phases.
func (k *Kit) register(ctx context.Context, kek cell.KEK, name string) work.Column {
	k.T.Helper()
	source, _ := k.Relation.Column(name)
	target, _ := k.Relation.Column(k.Target(name))
	var column lifecycle.Column
	check(k.T, k.DB.InTx(ctx, func(tx pg.Tx) (err error) {
		column, err = lifecycle.RegisterColumn(ctx, tx, lifecycle.Column{Relid: k.Relation.OID, SourceNum: source.Attnum, TargetNum: target.Attnum,
			Table: k.Table, Source: source.Name, Target: target.Name, Type: source.Type, Collation: source.Collation})
		return err
	}))
	var scheme cell.Scheme
	c, external, origin := k.Foreign, work.External{}, k.originOf()
	if c.Payload == ddl.PayloadCell {
		codec := must(cell.CodecFor(keyspace.TypeInfo(source.Base)))(k.T)
		if origin != nil {
			codec = must(origin.Codec())(k.T)
		}
		scheme = must(lifecycle.ActivateScheme(ctx, k.DB.DB, kek, cell.Scheme{Column: column.ID, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: codec,
			RowBound: true, Padding: codec.DefaultPadding(), Nulls: k.Nulls}))(k.T)
	} else {
		external = work.External{Subject: "encrypt.items", Key: "items/" + name, Table: k.Table, Target: target.Name}
		if k.Proxy != nil {
			external.Subject, external.Key, external.Proxy = "", "", true
		}
	}
	c.ID, c.Table, c.Source, c.Target, c.Key = column.ID, k.Table, source.Name, target.Name, k.Key().Names()
	c.Beside, c.Nulls = origin.Names(), bool(k.Nulls)
	c.BytesInBytes = source.Base.Name == "bytea" && c.Payload == ddl.PayloadBytea
	for _, step := range []ddl.Step{c.Check(), c.Validate(), c.Capture()} {
		for _, statement := range step.Do {
			k.DB.Run(k.T, statement)
		}
	}
	spec := work.Column{ID: column.ID, Source: source.Name, Target: target.Name, SourceAttnum: source.Attnum, TargetAttnum: target.Attnum,
		Scheme: scheme.Number, External: external, Origin: origin, LogTable: k.Table.String(), LogColumn: source.Name}
	check(k.T, k.DB.InTx(ctx, func(tx pg.Tx) error {
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
func (k *Kit) originOf() *work.Origin {
	k.T.Helper()
	if k.Origin == nil {
		return nil
	}
	o := &work.Origin{Origin: *k.Origin}
	for _, name := range o.Origin.Columns() {
		column, found := k.Relation.Column(name)
		if !found {
			k.T.Fatalf("there is no column %s", name)
		}
		o.Beside = append(o.Beside, ddl.Input{Name: name, Attnum: column.Attnum})
	}
	return o
}

// Leaves are the oids of the table's leaves as of now.
func (k *Kit) Leaves() (oids []uint32) {
	k.T.Helper()
	for _, leaf := range k.Inspect(k.T.Context()).Leaves {
		oids = append(oids, leaf.OID)
	}
	return oids
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
