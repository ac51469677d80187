package pg_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func names(all []pg.Leaf) (names []string) {
	for _, l := range all {
		names = append(names, l.Table().String())
	}
	return names
}

func TestInspectPartitions(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE SCHEMA "Hot one"`, `CREATE FOREIGN DATA WRAPPER w`, `CREATE SERVER far FOREIGN DATA WRAPPER w`,
		`CREATE TABLE p (id int, "at.d" date, city text, note text) PARTITION BY RANGE ("at.d")`,
		`CREATE TABLE p_old PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY LIST (lower(city))`,
		`CREATE TABLE "Hot one"."p.b" PARTITION OF p_old FOR VALUES IN ('berlin')`,
		`CREATE UNLOGGED TABLE p_other PARTITION OF p_old DEFAULT`,
		`CREATE FOREIGN TABLE p_far PARTITION OF p DEFAULT SERVER far`)
	r := inspect(t, db, "public", "p")
	same(t, "leaves", names(r.Leaves), []string{"Hot one.p.b", "public.p_other", "public.p_far"})
	same(t, "partition key of every level", r.PartitionKey, []string{"at.d", "city"})
	if !r.IsPartitioned || r.IsPartition || r.Root != r.Named || r.Leaves[1].Persistence != pg.Unlogged || r.Leaves[2].Kind != pg.KindForeign {
		t.Errorf("have %+v", r)
	}
	sub := inspect(t, db, "public", "p_old")
	same(t, "leaves of a partition", names(sub.Leaves), []string{"Hot one.p.b", "public.p_other"})
	leaf := inspect(t, db, "Hot one", "p.b")
	same(t, "leaves of a leaf", names(leaf.Leaves), []string{"Hot one.p.b"})
	if !leaf.IsPartition || leaf.IsPartitioned || leaf.Root != r.Named || len(leaf.Parents) > 0 || !sub.IsPartition || !sub.IsPartitioned || sub.Root != r.Named {
		t.Errorf("have root %+v of the leaf and %+v of its parent", leaf.Root, sub.Root)
	}
}

func TestInspectInheritance(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE TABLE up (id int)`, `CREATE TABLE mid () INHERITS (up)`, `CREATE TABLE down () INHERITS (mid)`, `CREATE TABLE lone (id int)`)
	r := inspect(t, db, "public", "mid")
	if len(r.Parents) != 1 || r.Parents[0].Name != "up" || len(r.Children) != 1 || r.Children[0].Name != "down" {
		t.Errorf("parents %v, children %v", r.Parents, r.Children)
	}
	if r := inspect(t, db, "public", "lone"); len(r.Parents) > 0 || len(r.Children) > 0 || r.Root != r.Named || len(r.Leaves) != 1 || len(r.PartitionKey) > 0 {
		t.Errorf("a lone table has %+v", r)
	}
}

func TestInspectEstimates(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE TABLE t (id bigint, name text) WITH (autovacuum_enabled = false)`)
	if r := inspect(t, db, "public", "t"); r.Rows() != 0 || r.Pages() != 0 {
		t.Errorf("an empty table has %d rows on %d pages", r.Rows(), r.Pages())
	}
	counted(t, db, `INSERT INTO t SELECT n, repeat('x', 30) FROM generate_series(1, 20000) n`)
	r := inspect(t, db, "public", "t")
	if r.Rows() < 10000 || r.Rows() > 40000 || r.Pages() < 100 {
		t.Errorf("without statistics 20000 rows are taken for %d on %d pages", r.Rows(), r.Pages())
	}
	counted(t, db, `ANALYZE t`)
	if r := inspect(t, db, "public", "t"); r.Rows() != 20000 {
		t.Errorf("with statistics 20000 rows are taken for %d", r.Rows())
	}
	counted(t, db, `INSERT INTO t SELECT n, repeat('x', 30) FROM generate_series(1, 20000) n`)
	if r := inspect(t, db, "public", "t"); r.Rows() < 39000 || r.Rows() > 41000 {
		t.Errorf("with old statistics 40000 rows are taken for %d", r.Rows())
	}
}

// counted runs a statement and lets the server count at once what it did.
func counted(t *testing.T, db *testenv.DB, sql string) {
	t.Helper()
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, statement := range []string{sql, `SELECT pg_stat_force_next_flush()`} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInspectEstimatesRowsAndNotTheirVersions(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	about := func(when string, rows int64) {
		t.Helper()
		if r := inspect(t, db, "public", "t"); r.Rows() < rows*95/100 || r.Rows() > rows*105/100 {
			t.Errorf("%s: %d rows are taken for %d", when, rows, r.Rows())
		}
	}
	run(t, db, `CREATE TABLE t (id bigint, name text, cell bytea) WITH (autovacuum_enabled = false)`)
	counted(t, db, `INSERT INTO t SELECT n, repeat('x', 30) FROM generate_series(1, 20000) n`)
	about("never analysed", 20000)
	counted(t, db, `UPDATE t SET name = name || 'y'`)
	about("never analysed, and all updated", 20000)
	run(t, db, `ANALYZE t`)
	about("analysed", 20000)
	counted(t, db, `UPDATE t SET cell = decode(repeat('ab', 80), 'hex')`)
	about("all updated and grown", 20000)
	counted(t, db, `DELETE FROM t WHERE id > 5000`)
	about("most deleted", 5000)
	run(t, db, `VACUUM ANALYZE t`)
	counted(t, db, `UPDATE t SET name = 'z' WHERE id = 1`)
	about("cleaned", 5000)
	counted(t, db, `INSERT INTO t SELECT n, repeat('x', 30), decode(repeat('ab', 80), 'hex') FROM generate_series(5001, 80000) n`)
	about("inserted", 80000)
	run(t, db, `ANALYZE t`, `SELECT pg_stat_reset_single_table_counters('t'::regclass)`)
	counted(t, db, `INSERT INTO t SELECT n, repeat('x', 30), decode(repeat('ab', 80), 'hex') FROM generate_series(80001, 160000) n`)
	about("after the counters were lost", 160000)
	run(t, db, `TRUNCATE t`)
	about("truncated", 0)
}
