package pg_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func inspect(t *testing.T, q pg.Querier, schema, table string) pg.Relation {
	t.Helper()
	r, err := pg.Inspect(t.Context(), q, schema, table)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// same compares what was read with what is wanted, field by field of the message.
func same(t *testing.T, what string, have, want any) {
	t.Helper()
	if !reflect.DeepEqual(have, want) {
		t.Errorf("%s:\nhave %+v\nwant %+v", what, have, want)
	}
}

// alone gives a transaction that never commits, so that roles and settings stay with the test.
func alone(t *testing.T, db *testenv.DB) pg.Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback(context.WithoutCancel(t.Context())) }) //nolint:errcheck // the connection is closed anyway
	return tx
}

func run(t *testing.T, q pg.Querier, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := q.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func TestInspectKinds(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	tx := alone(t, db)
	run(t, tx, `CREATE SCHEMA s`,
		`CREATE TABLE s.plain (id int PRIMARY KEY)`, `CREATE UNLOGGED TABLE s.light (id int)`, `CREATE TEMPORARY TABLE passing (id int)`,
		`CREATE VIEW s.seen AS SELECT 1 AS id`, `CREATE MATERIALIZED VIEW s.kept AS SELECT 1 AS id`, `CREATE SEQUENCE s.counter`,
		`CREATE FOREIGN DATA WRAPPER w`, `CREATE SERVER far FOREIGN DATA WRAPPER w`, `CREATE FOREIGN TABLE s.away (id int) SERVER far`,
		`CREATE TABLE s.parted (id int) PARTITION BY HASH (id)`)
	for name, want := range map[string]struct {
		kind        pg.RelationKind
		persistence pg.Persistence
	}{
		"plain": {pg.KindTable, pg.Permanent}, "light": {pg.KindTable, pg.Unlogged}, "seen": {pg.KindView, pg.Permanent},
		"kept": {pg.KindMaterialized, pg.Permanent}, "counter": {pg.KindSequence, pg.Permanent}, "away": {pg.KindForeign, pg.Permanent},
		"parted": {pg.KindPartitioned, pg.Permanent}, "plain_pkey": {pg.KindIndex, pg.Permanent},
	} {
		r := inspect(t, tx, "s", name)
		if r.Kind != want.kind || r.Persistence != want.persistence || r.System || r.IsPartitioned != (want.kind == pg.KindPartitioned) {
			t.Errorf("%s: kind %s, persistence %s, system %v", name, r.Kind, r.Persistence, r.System)
		}
	}
	if r := inspect(t, tx, "", "passing"); r.Persistence != pg.Temporary {
		t.Errorf("temporary table found on the search path has persistence %s", r.Persistence)
	}
	if r := inspect(t, tx, "pg_catalog", "pg_class"); !r.System {
		t.Error("pg_class is not taken for a system table")
	}
	toast := testenv.One[string](t, tx, `SELECT relname::text FROM pg_class WHERE relnamespace = 'pg_toast'::regnamespace AND relkind = 't' LIMIT 1`)
	if r := inspect(t, tx, "pg_toast", toast); !r.System {
		t.Error("a TOAST table is not taken for a system table")
	}
	if r := inspect(t, tx, "information_schema", "sql_features"); !r.System {
		t.Error("information_schema.sql_features is not taken for a system table")
	}
}

func TestInspectColumns(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE SCHEMA "My ""S"`, `CREATE EXTENSION citext SCHEMA "My ""S"`,
		`CREATE COLLATION "My ""S"."loose.one" (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
		`CREATE DOMAIN "My ""S".short AS varchar(20)`, `CREATE DOMAIN public.shorter AS "My ""S".short NOT NULL`,
		`CREATE TYPE "My ""S".mood AS ENUM ('glad', 'sad')`,
		`CREATE TYPE public.pair AS (amount money, label "My ""S".short)`,
		`CREATE TABLE "My ""S"."T.a ""b" ("I d" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone int, "E.mail" public.shorter,
		   c "My ""S".citext COLLATE "C" NOT NULL, n numeric(10,2)[] DEFAULT '{}', g int GENERATED ALWAYS AS (1) STORED, m "My ""S".mood,
		   ms "My ""S".mood[], f char(3) COLLATE "My ""S"."loose.one", q "char", p public.pair[], r int4range)`,
		`ALTER TABLE "My ""S"."T.a ""b" DROP COLUMN gone`)
	r := inspect(t, db, `My "S`, `T.a "b`)
	type short struct {
		name, shown, sql, array, kind, category, collation string
		typmod                                             int32
	}
	var have []short
	for _, c := range r.Columns {
		have = append(have, short{c.Name, c.Type, c.Base.SQL, c.Base.ArraySQL, c.Base.Kind, c.Base.Category, c.Collation, c.BaseTypmod})
	}
	same(t, "columns", have, []short{
		{"I d", "bigint", "pg_catalog.int8", "pg_catalog.int8[]", "b", "N", "", -1},
		{"E.mail", "public.shorter", `pg_catalog."varchar"`, `pg_catalog."varchar"[]`, "b", "S", `pg_catalog."default"`, 24},
		{"c", `"My ""S".citext`, `"My ""S".citext`, `"My ""S".citext[]`, "b", "S", `pg_catalog."C"`, -1},
		{"n", "numeric(10,2)[]", "pg_catalog._numeric", "", "b", "A", "", 655366},
		{"g", "integer", "pg_catalog.int4", "pg_catalog.int4[]", "b", "N", "", -1},
		{"m", `"My ""S".mood`, `"My ""S".mood`, `"My ""S".mood[]`, "e", "E", "", -1},
		{"ms", `"My ""S".mood[]`, `"My ""S"._mood`, "", "b", "A", "", -1},
		{"f", "character(3)", "pg_catalog.bpchar", "pg_catalog.bpchar[]", "b", "S", `"My ""S"."loose.one"`, 7},
		{"q", `"char"`, `pg_catalog."char"`, `pg_catalog."char"[]`, "b", "Z", "", -1},
		{"p", "public.pair[]", "public._pair", "", "b", "A", "", -1},
		{"r", "int4range", "pg_catalog.int4range", "pg_catalog.int4range[]", "r", "R", "", -1},
	})
	inspectFlags(t, r)
	inspectSpellings(t, db, r)
	for _, path := range []string{`"My ""S", public`, `public, pg_catalog`, `''`} {
		tx := alone(t, db)
		run(t, tx, `SET LOCAL search_path = `+path)
		same(t, "columns under search path "+path, inspect(t, tx, `My "S`, `T.a "b`).Columns, r.Columns)
	}
}

func inspectFlags(t *testing.T, r pg.Relation) {
	t.Helper()
	flags := map[string]string{}
	for _, c := range r.Columns {
		s := c.Generated + c.Identity
		for is, letter := range map[string]bool{"n": c.NotNull, "d": c.HasDefault, "l": !c.Deterministic} {
			if letter {
				s += is
			}
		}
		letters := []byte(s)
		slices.Sort(letters)
		flags[c.Name] = string(letters)
	}
	same(t, "flags", flags, map[string]string{"I d": "an", "E.mail": "", "c": "n", "n": "d", "g": "ds", "m": "", "ms": "", "f": "l", "q": "", "p": "", "r": ""})
	parts := map[string][]string{}
	for _, c := range r.Columns {
		for _, p := range c.Base.Parts {
			parts[c.Name] = append(parts[c.Name], p.SQL)
		}
	}
	for _, names := range parts {
		slices.Sort(names)
	}
	same(t, "parts of types", parts, map[string][]string{"n": {"pg_catalog.\"numeric\""}, "ms": {`"My ""S".mood`},
		"p": {`pg_catalog."varchar"`, "pg_catalog.money", "public.pair"}, "r": {"pg_catalog.int4"}})
	if _, found := r.Column("gone"); found {
		t.Error("a dropped column is found")
	}
	if c, found := r.Column("c"); !found || c.Attnum != 4 {
		t.Errorf("column c is %d, found %v", c.Attnum, found)
	}
}

// inspectSpellings asks Postgres whether the spellings mean the types, without any modifier.
func inspectSpellings(t *testing.T, db *testenv.DB, r pg.Relation) {
	t.Helper()
	tx := alone(t, db)
	run(t, tx, `SET LOCAL search_path = ''`)
	for _, c := range r.Columns {
		if oid := testenv.One[uint32](t, tx, `SELECT pg_typeof(NULL::`+c.Base.SQL+`)::oid`); oid != c.Base.OID {
			t.Errorf("%s: %s means type %d, not %d", c.Name, c.Base.SQL, oid, c.Base.OID)
		}
		if array := testenv.One[uint32](t, tx, `SELECT typarray FROM pg_type WHERE oid = $1`, c.Base.OID); array != c.Base.ArrayOID {
			t.Errorf("%s: the array type is %d, not %d", c.Name, array, c.Base.ArrayOID)
		}
		if c.Base.ArraySQL == "" {
			continue
		}
		if oid := testenv.One[uint32](t, tx, `SELECT typelem FROM pg_type WHERE oid = pg_typeof(NULL::`+c.Base.ArraySQL+`)`); oid != c.Base.OID {
			t.Errorf("%s: %s is an array of type %d, not %d", c.Name, c.Base.ArraySQL, oid, c.Base.OID)
		}
	}
	if kept := testenv.One[string](t, tx, `SELECT 'abcdef'::pg_catalog.bpchar`); kept != "abcdef" {
		t.Errorf("the spelling of char(n) cuts to %q", kept)
	}
}

func TestInspectServer(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	tx := alone(t, db)
	run(t, tx, `SET LOCAL deadlock_timeout = '1min'`, `SET LOCAL default_transaction_read_only = on`, `SET LOCAL IntervalStyle = sql_standard`)
	have, err := pg.InspectServer(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if have.Version < 140000 || have.Major() != have.Version/10000 || have.InRecovery || !have.DefaultReadOnly || !have.Superuser || !have.MaySetReplication ||
		have.DeadlockTimeout != time.Minute || have.Encoding != "UTF8" || have.MaxIdentifierBytes != 63 || have.Database == "" {
		t.Errorf("have %+v", have)
	}
	role := "plain " + have.Database
	run(t, tx, `CREATE ROLE `+pg.Ident(role), `SET LOCAL ROLE `+pg.Ident(role))
	have, err = pg.InspectServer(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if have.User != role || have.Superuser || have.BypassRowSecurity || have.MaySetReplication || have.MayCreateSchema {
		t.Errorf("of a plain role have %+v", have)
	}
	if have.Major() < 15 {
		return // only a superuser may set session_replication_role there
	}
	run(t, tx, `RESET ROLE`, `GRANT SET ON PARAMETER session_replication_role TO `+pg.Ident(role), `ALTER ROLE `+pg.Ident(role)+` BYPASSRLS`,
		`GRANT CREATE ON DATABASE `+pg.Ident(have.Database)+` TO `+pg.Ident(role), `SET LOCAL ROLE `+pg.Ident(role))
	have, err = pg.InspectServer(t.Context(), tx)
	if err != nil || have.Superuser || !have.BypassRowSecurity || !have.MaySetReplication || !have.MayCreateSchema {
		t.Errorf("of a favoured role have %+v, %v", have, err)
	}
}

func TestInspectAccess(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	tx := alone(t, db)
	role := pg.Ident("access " + testenv.One[string](t, tx, `SELECT current_database()`))
	run(t, tx, `CREATE ROLE `+role, `CREATE SCHEMA s`, `CREATE TABLE s.t (id int PRIMARY KEY, a text, b text) PARTITION BY LIST (id)`,
		`CREATE TABLE s.t1 PARTITION OF s.t FOR VALUES IN (1)`, `CREATE TABLE s.t2 PARTITION OF s.t DEFAULT`,
		`GRANT SELECT (id, a), UPDATE (b) ON s.t, s.t1 TO `+role, `GRANT SELECT, UPDATE (b) ON s.t2 TO `+role,
		`ALTER TABLE s.t2 ENABLE ROW LEVEL SECURITY`)
	access := func() (pg.Privileges, pg.RowSecurity, string) {
		t.Helper()
		run(t, tx, `SET LOCAL ROLE `+role)
		r := inspect(t, tx, "s", "t")
		run(t, tx, `RESET ROLE`)
		may := ""
		for _, c := range r.Columns {
			if c.MaySelect {
				may += "r" + c.Name
			}
			if c.MayUpdate {
				may += "w" + c.Name
			}
		}
		return r.Privileges, r.RowSecurity, may
	}
	p, s, may := access()
	same(t, "privileges", p, pg.Privileges{})
	same(t, "row security of a leaf", s, pg.RowSecurity{Enabled: true, Applies: true})
	same(t, "columns that may be read and written in every leaf", may, "ridrawb")

	run(t, tx, `GRANT USAGE ON SCHEMA s TO `+role, `GRANT TRIGGER ON s.t, s.t1, s.t2 TO `+role, `REVOKE UPDATE (b) ON s.t2 FROM `+role)
	p, _, may = access()
	same(t, "privileges", p, pg.Privileges{Schema: true, Trigger: true})
	same(t, "columns that may be read and written in every leaf", may, "ridra")

	for _, table := range []string{"t", "t1", "t2"} {
		run(t, tx, `ALTER TABLE s.`+table+` OWNER TO `+role)
	}
	p, s, _ = access()
	same(t, "privileges of the owner", p, pg.Privileges{Schema: true, Owner: true, Trigger: true, Version: true})
	same(t, "row security for the owner", s, pg.RowSecurity{Enabled: true})
	run(t, tx, `ALTER TABLE s.t2 FORCE ROW LEVEL SECURITY`)
	_, s, _ = access()
	same(t, "forced row security", s, pg.RowSecurity{Enabled: true, Forced: true, Applies: true})
	if s := inspect(t, tx, "s", "t").RowSecurity; s.Applies {
		t.Error("row security applies to a superuser")
	}
}

func TestInspectPublications(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE TABLE a (id int PRIMARY KEY) PARTITION BY HASH (id)`, `CREATE TABLE a0 PARTITION OF a FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
		`CREATE TABLE b (id int PRIMARY KEY)`, `ALTER TABLE b REPLICA IDENTITY FULL`,
		`CREATE PUBLICATION of_root FOR TABLE a WITH (publish_via_partition_root)`, `CREATE PUBLICATION of_leaf FOR TABLE a0`)
	same(t, "publications of a partitioned table", inspect(t, db, "public", "a").Publications, []string{"of_leaf", "of_root"})
	b := inspect(t, db, "public", "b")
	same(t, "publications of another table", len(b.Publications), 0)
	same(t, "replica identity", b.Identity, "f")
	run(t, db, `CREATE PUBLICATION everything FOR ALL TABLES`)
	same(t, "publication of all tables", inspect(t, db, "public", "b").Publications, []string{"everything"})
}

func TestInspectNotFoundGuesses(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE SCHEMA "Other"`, `CREATE TABLE public.users ()`, `CREATE TABLE public."Users" ()`, `CREATE TABLE "Other".usr ()`, `CREATE TABLE public.orders ()`,
		`CREATE TABLE "Other".orders ()`, `CREATE VIEW public.user AS SELECT 1`)
	for _, test := range []struct {
		schema, table string
		near          []pg.Table
	}{
		{"public", "USERS", []pg.Table{{Schema: "public", Name: "Users"}, {Schema: "public", Name: "users"}}},
		{"Other", "users", []pg.Table{{Schema: "public", Name: "users"}, {Schema: "public", Name: "Users"}}},
		{"", "order", []pg.Table{{Schema: "Other", Name: "orders"}, {Schema: "public", Name: "orders"}}},
		{"public", "public.users", nil},
		{"nowhere", "at all", nil},
	} {
		_, err := pg.Inspect(t.Context(), db, test.schema, test.table)
		var missing *pg.NotFound
		if !errors.As(err, &missing) {
			t.Errorf("%s.%s: have %v, want *NotFound", test.schema, test.table, err)
			continue
		}
		same(t, "guesses for "+test.schema+"."+test.table, missing.Near, test.near)
	}
}
