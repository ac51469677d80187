package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	binding "github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// fewTenants are fifty items of three tenants, each with a slug of its own; every seventh has no secret.
const fewTenants = engine.FewItems + `;
ALTER TABLE public.items ADD tenant int NOT NULL DEFAULT 0, ADD slug text COLLATE "C" NOT NULL DEFAULT '';
UPDATE public.items SET tenant = id % 3, slug = 's' || id, secret = CASE WHEN id % 7 > 0 THEN secret END`

// bindTo has a scheme bound to columns of the kit's table.
func (k *kit) bindTo(names ...string) func(*cell.Scheme) {
	k.T.Helper()
	relation := k.Inspect(k.T.Context())
	var columns []pg.Column
	for _, name := range names {
		column, _ := relation.Column(name)
		columns = append(columns, column)
	}
	label := must(binding.Label(columns))(k.T)
	return func(s *cell.Scheme) { s.Suite, s.RowBound, s.Columns = cell.SuiteXAES256GCM, true, label }
}

func unbound(s *cell.Scheme) { s.Suite, s.RowBound, s.Columns = cell.SuiteXAES256GCM, false, "" }

func toKey(s *cell.Scheme) { s.Suite, s.RowBound, s.Columns = cell.SuiteXAES256GCM, true, "" }

// lookAfter has Postgres look after bound columns.
func (k *kit) lookAfter(names ...string) {
	k.T.Helper()
	c := ddl.Column{ID: k.Columns[0].ID, Table: k.Table, Target: k.Columns[0].Target}
	for _, statement := range c.Bind(names).Do {
		k.DB.Run(k.T, statement)
	}
}

// bindings are what cells of the kit's first column are bound to, by the numbers of their schemes: text of SQL, spelled out
// here as docs/envelope.md has it.
type bindings map[uint16]string

const (
	ofKey    = `'\x0001690000'::bytea || '\x0008' || int8send(id)`
	ofTenant = `'\x0001690000'::bytea || '\x0008' || int8send(tenant::int8)`
	ofBoth   = `'\x0002730000'::bytea || int2send(length(slug)::int2) || slug::bytea || '\x690000' || '\x0008' || int8send(tenant::int8)`
)

// reads are the rows' values as their cells open, by schemes bound so.
func (k *kit) reads(ctx context.Context, to bindings) map[int64]string {
	k.T.Helper()
	cells := pg.Ident(k.Columns[0].Target)
	values := map[int64]string{}
	for number, part := range to {
		rows := must(k.DB.Query(ctx, fmt.Sprintf(`SELECT id, %s, %s FROM %s WHERE substr(%[1]s, 7, 2) = int2send($1::int2)`, cells, part, k.Table.SQL()), int16(number)))(k.T)
		for rows.Next() {
			var id int64
			var sealed, bound []byte
			check(k.T, rows.Scan(&id, &sealed, &bound))
			scheme, _ := k.Keyring.Scheme(k.Columns[0].ID, number)
			a := cell.Address{Column: k.Columns[0].ID, Key: bound}
			if scheme.Columns != "" {
				a = cell.Address{Column: k.Columns[0].ID, Bound: []cell.Bound{{Columns: scheme.Columns, Key: bound}}}
			}
			plain, _, err := k.Keyring.Open(nil, a, sealed)
			if err != nil {
				k.T.Errorf("row %d under scheme %d: %v", id, number, err)
			}
			values[id] = string(plain)
		}
		check(k.T, rows.Err())
	}
	return values
}

// stillHold demands that the rows hold what they held.
func (k *kit) stillHold(ctx context.Context, to bindings) {
	k.T.Helper()
	values := k.reads(ctx, to)
	for id := int64(1); id <= 50; id++ {
		value, there := values[id]
		if there != (id%7 > 0) || there && value != fmt.Sprintf("secret %d", id) {
			k.T.Errorf("row %d holds %q, %t", id, value, there)
		}
	}
}

// tenantsDropped are few tenants, encrypted, and without a plaintext.
func tenantsDropped(t *testing.T, sql string, options ...option) *kit {
	t.Helper()
	k := prepare(t, t.Context(), sql, options...)
	k.Start(t.Context(), 10)
	if job := k.Finish(t.Context()); job.State != work.Done {
		t.Fatalf("the first job ended %s", job.State)
	}
	k.CutOver()
	k.dropPlaintext()
	return k
}

// A column goes from binding to binding, and what its rows held they hold: each cell opens by what its own scheme is bound
// to, in the order that the scheme has.
func TestBindingsTakeTurns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := tenantsDropped(t, fewTenants)
	for _, step := range []struct {
		alter func(*cell.Scheme)
		part  string
	}{{k.bindTo("tenant"), ofTenant}, {unbound, `''::bytea`}, {k.bindTo("slug", "tenant"), ofBoth}, {k.bindTo("tenant"), ofTenant}, {toKey, ofKey}} {
		number := k.successor(ctx, "", step.alter)
		k.turn(ctx, number)
		k.stillHold(ctx, bindings{number: step.part})
		k.Proven(ctx, 50)
	}
}

// A cell opens in the rows with the values that it is bound to, and in no other; a verification says so.
func TestACellOpensWhereItsColumnsAreTheSame(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := tenantsDropped(t, fewTenants)
	k.turn(ctx, k.successor(ctx, "", k.bindTo("tenant")))
	const move = `UPDATE public.items SET secret = (SELECT o.secret FROM public.items o WHERE o.id = $2) WHERE id = $1`
	k.DB.Run(t, move, 1, 4) // of one tenant
	if r := k.Verify(ctx)[0]; !r.Proven() {
		t.Errorf("the cell of another row of the tenant: %+v", r)
	}
	k.DB.Run(t, move, 1, 2)
	if r := k.Verify(ctx)[0]; r.Broken != 1 || r.Covered != 49 {
		t.Errorf("the cell of another tenant: %+v", r)
	}
	number := k.successor(ctx, "", toKey)
	k.Rotate(ctx, number)
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State == work.Done || k.Quarantined(t) != 1 {
		t.Errorf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
	}
}

// While the fleet seals a row, somebody makes it another tenant's, with another cell or without: the row's newest version
// is what is sealed, and nothing is lost.
func TestABoundColumnThatChangesBeneathAWriteIsReadAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := tenantsDropped(t, fewTenants)
	one, two := k.successor(ctx, "", k.bindTo("tenant")), uint16(0)
	k.turn(ctx, one)
	two = k.successor(ctx, "", k.bindTo("slug", "tenant"))
	k.Rotate(ctx, two)
	var once sync.Once
	between(func() {
		once.Do(func() {
			for id := int64(1); id <= 30; id++ {
				k.DB.Run(t, `UPDATE public.items SET slug = 't' || id WHERE id = $1`, id)
			}
		})
	})(k.Kit)
	k.turnUnder(ctx)
	k.stillHold(ctx, bindings{two: ofBoth})
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE slug LIKE 't%'`); n != 30 {
		t.Errorf("%d rows have another slug", n)
	}
	k.Proven(ctx, 50)
}

// Names that are exchanged in the middle of a job end it: under the name of a bound column stands another by then, and for
// its values no cell is sealed.
func TestBoundColumnsThatExchangeTheirNamesStopTheJob(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := tenantsDropped(t, fewTenants+`; ALTER TABLE public.items ADD other int NOT NULL DEFAULT 77`)
	number := k.successor(ctx, "", k.bindTo("tenant"))
	k.Rotate(ctx, number)
	var once sync.Once
	between(func() {
		once.Do(func() {
			k.DB.Run(t, `ALTER TABLE public.items RENAME tenant TO was; ALTER TABLE public.items RENAME other TO tenant; ALTER TABLE public.items RENAME was TO other`)
		})
	})(k.Kit)
	claim := k.Claimed(t)
	err := k.Executor(ctx, claim.Leaf).Execute(ctx, claim, func(backfill.Checkpoint) { t.Error("a chunk was committed") })
	if !errors.Is(err, keyspace.ErrChanged) {
		t.Errorf("the job went on: %v", err)
	}
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE substr(secret, 7, 2) = int2send($1::int2)`, int16(number)); n > 0 {
		t.Errorf("%d cells were sealed", n)
	}
}

// turnUnder runs the job that was prepared.
func (k *kit) turnUnder(ctx context.Context) {
	k.T.Helper()
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Done {
		k.T.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
}

// In partitions whose attributes have other numbers, and under other names since: what is bound to is a column of the
// root, wherever a row lies and whatever it is called.
func TestBindingsOfPartitions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := tenantsDropped(t, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, note text, tenant int NOT NULL DEFAULT 0, slug text COLLATE "C" NOT NULL DEFAULT '') PARTITION BY RANGE (id);
CREATE TABLE public.low (slug text COLLATE "C" NOT NULL, gone int, note text, id bigint NOT NULL, gone_too int, tenant int NOT NULL, secret text);
ALTER TABLE public.low DROP gone, DROP gone_too;
ALTER TABLE public.items ATTACH PARTITION public.low FOR VALUES FROM (1) TO (26);
CREATE TABLE public.high PARTITION OF public.items DEFAULT;
INSERT INTO public.items SELECT i, CASE WHEN i % 7 > 0 THEN 'secret ' || i END, NULL, i % 3, 's' || i FROM generate_series(1, 50) i; ANALYZE public.items`)
	number := k.successor(ctx, "", k.bindTo("slug", "tenant"))
	k.lookAfter("slug", "tenant")
	k.turn(ctx, number)
	k.stillHold(ctx, bindings{number: ofBoth})
	for _, id := range []int{2, 30} {
		if _, err := k.DB.Exec(ctx, `UPDATE public.items SET tenant = 7 WHERE id = $1`, id); pg.Code(err) != "23514" {
			t.Errorf("row %d became another tenant's, and its cell stayed: %v", id, err)
		}
	}
	k.DB.Run(t, `ALTER TABLE public.items RENAME tenant TO customer; ALTER TABLE public.items RENAME slug TO "Path name"`)
	next := k.successor(ctx, "", unbound)
	k.turn(ctx, next)
	k.stillHold(ctx, bindings{next: `''::bytea`})
}

// A job refuses a column that is not what its cells are bound to, whatever became of it, and changes nothing.
func TestAJobRefusesABoundColumnThatChanged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, says string }{
		"dropped":  {`ALTER TABLE public.items DROP slug`, "is gone"},
		"nullable": {`ALTER TABLE public.items ALTER slug DROP NOT NULL`, "may be NULL"},
		"retyped":  {`ALTER TABLE public.items ALTER slug DROP DEFAULT, ALTER slug TYPE bytea USING slug::bytea`, "another type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := tenantsDropped(t, fewTenants)
			k.turn(ctx, k.successor(ctx, "", k.bindTo("slug")))
			next := k.successor(ctx, "", toKey)
			k.DB.Run(t, c.sql)
			k.Rotate(ctx, next)
			k.Start(ctx, 10)
			_, err := shape.Open(ctx, k.DB.DB, k.Job.Following(k.Chain), k.Leaves()[0], k.Keyring)
			var changed *binding.ChangedError
			if !errors.Is(err, keyspace.ErrChanged) || !errors.As(err, &changed) || !strings.Contains(err.Error(), c.says) || changed.Hint() == "" {
				t.Errorf("the job's shape: %v", err)
			}
		})
	}
}

// A bound column may become wider: its values are what they were.
func TestABoundColumnMayBecomeWider(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := tenantsDropped(t, fewTenants)
	k.turn(ctx, k.successor(ctx, "", k.bindTo("tenant")))
	k.DB.Run(t, `ALTER TABLE public.items ALTER tenant TYPE bigint`)
	k.Proven(ctx, 50)
	number := k.successor(ctx, "", toKey)
	k.turn(ctx, number)
	k.stillHold(ctx, bindings{number: ofKey})
}

// Before a plaintext is gone a rollback opens what is bound to columns, and cells that nobody watched are compared.
func TestCellsBoundToColumnsGoBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewTenants)
	k.Start(ctx, 10)
	k.Finish(ctx)
	number := k.successor(ctx, "", k.bindTo("tenant"))
	k.lookAfter("tenant")
	k.Rotate(ctx, number)
	k.turnUnder(ctx)
	k.Columns[0].Rotate, k.Columns[0].Phase, k.Columns[0].Compare = false, "", true
	k.Proven(ctx, 50)
	before := testenv.One[string](t, k.DB, `SELECT md5(string_agg(sealed::text, ' ' ORDER BY id)) FROM public.items`)
	k.turnUnder(ctx)
	if after := testenv.One[string](t, k.DB, `SELECT md5(string_agg(sealed::text, ' ' ORDER BY id)) FROM public.items`); after != before {
		t.Error("cells that are right were made anew")
	}
	k.Columns[0].Compare = false
	k.DB.Run(t, `UPDATE public.items SET tenant = 9 WHERE id = 5`)
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE id = 5 AND sealed IS NULL AND secret IS NOT NULL`); n != 1 {
		t.Error("the cell of a row that became another tenant's stayed")
	}
	k.turnUnder(ctx)
	k.stillHold(ctx, bindings{number: ofTenant})
	k.CutOver()
	k.DB.Run(t, `UPDATE public.items SET secret_plaintext = NULL WHERE id % 2 = 0`)
	k.turnUnder(ctx)
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE secret_plaintext IS DISTINCT FROM CASE WHEN id % 7 > 0 THEN 'secret ' || id END`); n != 0 {
		t.Errorf("%d plaintexts are not what they were", n)
	}
}
