package pg_test

import (
	"context"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// statements counts what is sent.
type statements struct{ n atomic.Int64 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.n.Add(1)
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func traced(t *testing.T, url string) (*pg.DB, *statements) {
	t.Helper()
	counted := &statements{}
	db, err := pg.Open(t.Context(), url, pg.Options{MaxConns: 1, Tracer: counted})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db, counted
}

// TestInspectAllIsInspectOfEach: with as many statements, and hostile names.
func TestInspectAllIsInspectOfEach(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	long := strings.Repeat("ü", 31) + "x"
	run(t, db, nothing, `CREATE TYPE pair AS (a int, b text[]); CREATE DOMAIN "dom'ain" AS varchar(9)`, `CREATE SCHEMA "s.p"`,
		`CREATE TABLE "s.p"."T; DROP" (id int PRIMARY KEY, "a""b" "dom'ain", c pair, UNIQUE ("a""b"))`,
		`CREATE INDEX "the one" ON "s.p"."T; DROP" (lower("a""b")) WHERE id > 3`,
		`CREATE TRIGGER "%s" BEFORE UPDATE ON "s.p"."T; DROP" FOR EACH ROW EXECUTE FUNCTION nothing()`,
		`CREATE TABLE `+pg.Ident(long)+` (id bigint, at date, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)`,
		`CREATE TABLE p1 PARTITION OF `+pg.Ident(long)+` DEFAULT`, `CREATE INDEX ON `+pg.Ident(long)+` (v)`,
		`CREATE TABLE plain (v text CHECK (v <> ''))`, `CREATE TABLE child () INHERITS (plain)`, `CREATE RULE r AS ON UPDATE TO plain DO ALSO NOTIFY t`,
		`CREATE PUBLICATION pub FOR TABLE plain, `+pg.Ident(long), `ALTER TABLE plain ENABLE ROW LEVEL SECURITY`)
	names := []pg.Table{{Schema: "s.p", Name: "T; DROP"}, {Schema: "public", Name: long}, {Schema: "public", Name: "plain"}, {Schema: "public", Name: "p1"}, {Schema: "public", Name: "gone"}}
	found, err := pg.FindTables(t.Context(), db, names)
	if err != nil || len(found) != 4 {
		t.Fatalf("%v, %v", found, err)
	}
	oids := []uint32{4_000_000_000}
	for _, oid := range found {
		oids = append(oids, oid)
	}
	counted, n := traced(t, db.URL)
	all, err := pg.InspectAll(t.Context(), counted, oids)
	if err != nil || len(all) != 4 {
		t.Fatalf("%d tables: %v", len(all), err)
	}
	batch := n.n.Load()
	for table, oid := range found {
		n.n.Store(0)
		one, err := pg.Inspect(t.Context(), counted, table.Schema, table.Name)
		if err != nil || !reflect.DeepEqual(one, all[oid]) {
			t.Errorf("%s: %v\n one %+v\n all %+v", table, err, one, all[oid])
		}
		if each := n.n.Load(); batch > each+8 {
			t.Errorf("%d statements for all tables, %d for one", batch, each)
		}
	}
	hostile := all[found[names[0]]]
	if len(hostile.Indexes) != 3 || hostile.Indexes[2].Name != "the one" || !hostile.Indexes[2].Partial || !reflect.DeepEqual(hostile.Indexes[2].Columns, []string{"id", `a"b`}) {
		t.Errorf("%+v", hostile.Indexes)
	}
	if none, err := pg.InspectAll(t.Context(), db, nil); err != nil || len(none) != 0 {
		t.Errorf("of no table: %v, %v", none, err)
	}
}
