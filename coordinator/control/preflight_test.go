package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// refusal is one bad request: what the schema holds, what is asked, and what comes back.
type refusal struct {
	setup   string // run with the schema on the search path
	ask     func(r *messages.StartRequest)
	code    int // 0: CodeRefused
	kind    string
	field   string
	message string // %s stands for the schema
	hint    string // part of it
}

const (
	users   = `CREATE TABLE t (id bigint PRIMARY KEY, email text)`
	nothing = `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'`
)

func ask(schema string) messages.StartRequest {
	return messages.StartRequest{Schema: schema, Table: "t", Columns: []messages.ColumnRequest{{Source: "email"}}, Prepare: true}
}

func table(name string) func(*messages.StartRequest) {
	return func(r *messages.StartRequest) { r.Table = name }
}

func key(columns ...string) func(*messages.StartRequest) {
	return func(r *messages.StartRequest) { r.Key = columns }
}

func columns(pairs ...string) func(*messages.StartRequest) {
	return func(r *messages.StartRequest) {
		r.Columns = nil
		for _, pair := range pairs {
			source, target, _ := strings.Cut(pair, ">")
			r.Columns = append(r.Columns, messages.ColumnRequest{Source: source, Target: target})
		}
	}
}

func unprepared(r *messages.StartRequest) { r.Prepare = false }

func skip(r *messages.StartRequest) { r.UserTriggers = messages.TriggersSkip }

func tableRefusals() map[string]refusal {
	return map[string]refusal{
		"no table":          {setup: users, ask: table("T"), kind: messages.CodeNotFound, field: "table", message: `there is no table "T" in schema "%s"`, hint: `did you mean table "t" in schema`},
		"no table like it":  {setup: users, ask: table("zebra crossing"), kind: messages.CodeNotFound, field: "table", message: `there is no table "zebra crossing" in schema "%s"`, hint: "names are taken literally"},
		"system table":      {ask: func(r *messages.StartRequest) { r.Schema, r.Table = "pg_catalog", "pg_class" }, field: "table", message: "pg_catalog.pg_class belongs to Postgres", hint: "your own"},
		"own table":         {ask: func(r *messages.StartRequest) { r.Schema, r.Table = "cipherfleet", "jobs" }, field: "table", message: "cipherfleet.jobs is one of cipherfleet's own tables", hint: "your own"},
		"view":              {setup: `CREATE VIEW t AS SELECT 1 AS id, 'x' AS email`, field: "table", message: "%s.t is a view, not a table", hint: "holds the rows"},
		"materialized view": {setup: `CREATE MATERIALIZED VIEW t AS SELECT 1 AS id`, field: "table", message: "%s.t is a materialized view, not a table", hint: "holds the rows"},
		"sequence":          {setup: `CREATE SEQUENCE t`, field: "table", message: "%s.t is a sequence, not a table", hint: "holds the rows"},
		"index":             {setup: users, ask: table("t_pkey"), field: "table", message: "%s.t_pkey is an index, not a table", hint: "holds the rows"},
		"composite type":    {setup: `CREATE TYPE t AS (id int)`, field: "table", message: "%s.t is a composite type, not a table", hint: "holds the rows"},
		"foreign table": {setup: `CREATE FOREIGN DATA WRAPPER w1; CREATE SERVER s1 FOREIGN DATA WRAPPER w1; CREATE FOREIGN TABLE t (id int) SERVER s1`,
			field: "table", message: "%s.t is a foreign table, not a table", hint: "holds the rows"},
		"unlogged table": {setup: `CREATE UNLOGGED TABLE t (id int PRIMARY KEY, email text)`, field: "table", message: "%s.t is unlogged: what is committed there may be lost", hint: "SET LOGGED"},
		"partition": {setup: `CREATE TABLE p (id int PRIMARY KEY, email text) PARTITION BY HASH (id); CREATE TABLE t PARTITION OF p FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
			field: "table", message: "%[1]s.t is a partition of %[1]s.p", hint: `name table "p" in schema`},
		"unlogged partition": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text) PARTITION BY HASH (id); CREATE UNLOGGED TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
			field: "table", message: "%s.t0 is unlogged: what is committed there may be lost", hint: "SET LOGGED"},
		"foreign partition": {setup: `CREATE FOREIGN DATA WRAPPER w2; CREATE SERVER s2 FOREIGN DATA WRAPPER w2; CREATE TABLE t (id int, email text) PARTITION BY HASH (id);
			CREATE FOREIGN TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0) SERVER s2`,
			field: "table", message: "%[1]s.t0, a partition of %[1]s.t, is a foreign table", hint: "detach"},
		"inheritance parent": {setup: users + `; CREATE TABLE child () INHERITS (t)`, field: "table",
			message: "%[1]s.t has tables that inherit from it, such as %[1]s.child; their rows would be seen through it", hint: "NO INHERIT"},
		"update rule": {setup: users + `; CREATE RULE loud AS ON UPDATE TO t DO ALSO NOTIFY t`, field: "table", message: `rule "loud" rewrites every UPDATE of %s.t`, hint: "drop the rule"},
		"update rule of a partition": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text) PARTITION BY HASH (id); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0);
			CREATE RULE no AS ON UPDATE TO t0 DO INSTEAD NOTHING`, field: "table", message: `rule "no" rewrites every UPDATE of %s.t0`, hint: "drop the rule"},
		"trigger after ours": {setup: users + ";" + nothing + `; CREATE TRIGGER "~~last" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, field: "table",
			message: `trigger "~~last" on %s.t would run after ours, which must be the last to see a row`, hint: "before the tilde"},
		"triggers of the user": {setup: users + ";" + nothing + `; CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing();
			CREATE TRIGGER audit AFTER INSERT OR UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION nothing();
			CREATE TRIGGER other BEFORE UPDATE OF email ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, field: "user_triggers",
			message: `writing the target fires triggers of your own: "audit" on %[1]s.t (after each statement, calls %[1]s.nothing), "touch" on %[1]s.t (before each row, calls %[1]s.nothing)`,
			hint:    "--user-triggers skip"},
		"trigger of the target": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea);` + nothing + `; CREATE TRIGGER seen AFTER UPDATE OF email_encrypted ON t FOR EACH ROW EXECUTE FUNCTION nothing()`,
			field: "user_triggers", message: `writing the target fires triggers of your own: "seen" on %[1]s.t (after each row, calls %[1]s.nothing)`, hint: "--user-triggers fire"},
		"triggers that cannot be skipped": {setup: users + ";" + nothing + `; CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE t ENABLE ALWAYS TRIGGER a;
			CREATE TRIGGER b BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE t ENABLE REPLICA TRIGGER b;
			CREATE TRIGGER c BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, ask: skip, field: "user_triggers",
			message: `these triggers cannot be skipped, because they are enabled ALWAYS or for REPLICA: "a" on %[1]s.t (before each row, calls %[1]s.nothing), "b" on %[1]s.t (before each row, calls %[1]s.nothing)`,
			hint:    "let them fire"},
	}
}

func keyRefusals() map[string]refusal {
	return map[string]refusal{
		"no key": {setup: `CREATE TABLE t (id int, email text); CREATE INDEX ON t (id)`, field: "key", message: "%s.t has no primary key and no unique index to find each row by", hint: "add a primary key"},
		"no usable key": {setup: `CREATE TABLE t (id int, email text, UNIQUE (id)); CREATE UNIQUE INDEX part ON t (email) WHERE id > 0`, field: "key",
			message: `%s.t has no unique index that finds every row: part (email) cannot be used: it is partial, column "email" may be NULL; t_id_key (id) cannot be used: column "id" may be NULL`, hint: "NOT NULL"},
		"deferrable key":       {setup: `CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, email text)`, field: "key", message: "%s.t has no unique index that finds every row: t_pkey (id) cannot be used: it is deferrable", hint: "add a primary key"},
		"key that is not":      {setup: `CREATE TABLE t (id int PRIMARY KEY, ref int NOT NULL, email text); CREATE INDEX ON t (ref)`, ask: key("ref"), field: "key", message: "no unique index of %s.t has just the columns ref: two rows could share a key", hint: "keys that can be used: (id)"},
		"key of a part":        {setup: `CREATE TABLE t (a int, b int, email text, PRIMARY KEY (a, b))`, ask: key("a"), field: "key", message: "no unique index of %s.t has just the columns a: two rows could share a key", hint: "keys that can be used: (a, b)"},
		"key that may be NULL": {setup: `CREATE TABLE t (id int PRIMARY KEY, ref int UNIQUE, email text)`, ask: key("ref"), field: "key", message: `unique index t_ref_key (ref) of %s.t does not find every row: column "ref" may be NULL`, hint: "keys that can be used: (id)"},
		"key of no column":     {setup: users, ask: key("id", "idd"), kind: messages.CodeNotFound, field: "key[1]", message: `%s.t has no column "idd"`, hint: `did you mean "id"?`},
		"key of an array":      {setup: `CREATE TABLE t (id int[] PRIMARY KEY, email text)`, field: "key", message: `key column "id" has type integer[], which cannot be listed`, hint: "add a primary key"},
		"key of an object":     {setup: `CREATE TABLE t (id regclass PRIMARY KEY, email text)`, field: "key", message: "the key of %s.t cannot be used: key column 1 of type regclass: it names an object of this database and does not survive a dump or a rename", hint: "add a primary key"},
	}
}

func columnRefusals() map[string]refusal {
	return map[string]refusal{
		"no column":           {setup: `CREATE TABLE t (id int PRIMARY KEY, "E-mail" text)`, ask: columns("e-mail>x"), kind: messages.CodeNotFound, field: "columns[0].source", message: `%s.t has no column "e-mail"`, hint: `did you mean "E-mail"?`},
		"no column like it":   {setup: users, ask: columns("telephone>x"), kind: messages.CodeNotFound, field: "columns[0].source", message: `%s.t has no column "telephone"`, hint: "its columns are id, email"},
		"money":               {setup: `CREATE TABLE t (id int PRIMARY KEY, email money)`, field: "columns[0].source", message: `column "email" of type money cannot be sealed: money depends on the server's lc_monetary; make it numeric first`, hint: "change the column's type"},
		"money inside":        {setup: `CREATE TYPE price AS (amount money, note text); CREATE DOMAIN prices AS price[]; CREATE TABLE t (id int PRIMARY KEY, email prices)`, field: "columns[0].source", message: `column "email" of type %s.prices cannot be sealed: it contains money: money depends on the server's lc_monetary; make it numeric first`, hint: "change the column's type"},
		"name of an object":   {setup: `CREATE TABLE t (id int PRIMARY KEY, email regclass)`, field: "columns[0].source", message: `column "email" of type regclass cannot be sealed: it names an object of this database and does not survive a dump or a rename`, hint: "change the column's type"},
		"generated source":    {setup: `CREATE TABLE t (id int PRIMARY KEY, name text, email text GENERATED ALWAYS AS (lower(name)) STORED)`, field: "columns[0].source", message: `column "email" is generated: it has no value of its own to move`, hint: "computed from"},
		"source in key":       {setup: `CREATE TABLE t (id int, email text, PRIMARY KEY (id, email))`, field: "columns[0].source", message: `column "email" is part of the key (id, email), which must stay readable`, hint: "another key"},
		"source in given key": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text NOT NULL UNIQUE)`, ask: key("email"), field: "columns[0].source", message: `column "email" is part of the key (email), which must stay readable`, hint: "another key"},
		"source in partition key": {setup: `CREATE TABLE t (id int, email text) PARTITION BY RANGE (lower(email)); CREATE TABLE t0 PARTITION OF t DEFAULT`,
			field: "columns[0].source", message: `column "email" is part of the partition key of %s.t`, hint: "placed by its value"},
		"source in a lower partition key": {setup: `CREATE TABLE t (id int, email text, PRIMARY KEY (id, email)) PARTITION BY LIST (id); CREATE TABLE t0 PARTITION OF t DEFAULT PARTITION BY HASH (email)`,
			field: "columns[0].source", message: `column "email" is part of the partition key of %s.t`, hint: "placed by its value"},
		"source is target":    {setup: users, ask: columns("email>email"), code: app.CodeUsage, kind: messages.CodeInvalid, field: "columns[0].target", message: `source and target are both "email"`, hint: "another column"},
		"column named twice":  {setup: users, ask: columns("email>a", "email>b"), code: app.CodeUsage, kind: messages.CodeInvalid, field: "columns[1]", message: `"email" or "b" is named twice`, hint: "once"},
		"target missing":      {setup: users, ask: unprepared, field: "columns[0].target", message: `%s.t has no column "email_encrypted" to write cells to`, hint: `--prepare adds it; or ALTER TABLE`},
		"target too long":     {setup: users, ask: columns("email>" + strings.Repeat("x", 64)), code: app.CodeUsage, kind: messages.CodeInvalid, field: "columns[0].target", message: `target "` + strings.Repeat("x", 64) + `" has more than 63 bytes; the server would cut its name`, hint: "shorter"},
		"target of a type":    {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted varchar(9))`, field: "columns[0].target", message: `target "email_encrypted" has type character varying(9), accepted is bytea`, hint: "another target"},
		"target NOT NULL":     {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea NOT NULL)`, field: "columns[0].target", message: `target "email_encrypted" is NOT NULL, but a row is NULL there until it is done`, hint: "DROP NOT NULL"},
		"target with default": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea DEFAULT '')`, field: "columns[0].target", message: `target "email_encrypted" has a default, which is no cell`, hint: "DROP DEFAULT"},
		"target generated":    {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea GENERATED ALWAYS AS ('\x00'::bytea) STORED)`, field: "columns[0].target", message: `target "email_encrypted" is generated: nothing can be written to it`, hint: "another target"},
		"target in partition key": {setup: `CREATE TABLE t (id int NOT NULL, email text, email_encrypted bytea) PARTITION BY LIST (email_encrypted)`,
			field: "columns[0].target", message: `column "email_encrypted" is part of the partition key of %s.t`, hint: "name another column"},
		"target in key": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea UNIQUE NOT NULL)`, ask: key("email_encrypted"),
			field: "columns[0].target", message: `target "email_encrypted" is NOT NULL, but a row is NULL there until it is done`, hint: "DROP NOT NULL"},
		"target holds plaintext": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea); INSERT INTO t SELECT n, 'x', CASE WHEN n = 77 THEN 'some plaintext that is longer than the shortest cell of them all'::bytea END FROM generate_series(1, 99) n`,
			field: "columns[0].target", message: `target "email_encrypted" of %s.t holds values that are no cells of this column`, hint: "another target"},
		"target holds another column's cell": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea) PARTITION BY HASH (id); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0);
			INSERT INTO t VALUES (1, 'x', decode('f5c100000063' || repeat('00', 60), 'hex'))`,
			field: "columns[0].target", message: `target "email_encrypted" of %s.t0 holds values that are no cells of this column`, hint: "another target"},
	}
}

// inSchema runs statements with the schema first on the search path.
func inSchema(t *testing.T, db *testenv.DB, schema, statements string) {
	t.Helper()
	err := db.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL search_path = "+pg.Ident(schema)); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), statements)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// catalogSQL is one text that changes with anything anybody creates, alters or drops in the database, or with a value
// of the installation.
const catalogSQL = `SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
  SELECT concat_ws(' ', 'class', oid, relname, relnatts, relchecks, relhastriggers, relhasrules, reloptions, relacl) AS line FROM pg_class WHERE relpersistence <> 't'
  UNION ALL SELECT concat_ws(' ', 'attribute', attrelid, attnum, attname, atttypid, attnotnull, attisdropped, attstorage, attacl) FROM pg_attribute
  UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname, convalidated) FROM pg_constraint
  UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgname, tgenabled) FROM pg_trigger
  UNION ALL SELECT concat_ws(' ', 'function', oid, proname, prosrc) FROM pg_proc
  UNION ALL SELECT concat_ws(' ', 'schema', oid, nspname, nspacl) FROM pg_namespace
  UNION ALL SELECT concat_ws(' ', 'installation', i) FROM cipherfleet.installation i
  UNION ALL SELECT concat_ws(' ', 'column', c) FROM cipherfleet.columns c
  UNION ALL SELECT concat_ws(' ', 'event', count(*)) FROM cipherfleet.events) all_of_it`

// refused asks and compares the refusal; nothing may have changed.
func refused(t *testing.T, admin, db *pg.DB, r messages.StartRequest, want refusal) {
	t.Helper()
	before := testenv.One[string](t, admin, catalogSQL)
	_, err := control.Preflight(t.Context(), db, r)
	if after := testenv.One[string](t, admin, catalogSQL); after != before {
		t.Error("the catalog changed")
	}
	var have *control.Refusal
	if !errors.As(err, &have) {
		t.Fatalf("have %v, want a refusal", err)
	}
	if want.code == 0 {
		want.code = app.CodeRefused
	}
	if want.kind == "" {
		want.kind = messages.CodeRefused
	}
	if have.Code != want.code || have.Kind != want.kind || have.Field != want.field || have.Message != want.message || !strings.Contains(have.Hint, want.hint) || have.Hint == "" {
		t.Errorf("have %+v\nwant %+v", *have, want)
	}
	if code, hint := app.Explain(fmt.Errorf("start a job: %w", err)); code != want.code || hint != have.Hint {
		t.Errorf("explained as exit code %d, hint %q", code, hint)
	}
}

func TestPreflightRefuses(t *testing.T) {
	t.Parallel()
	for group, cases := range map[string]map[string]refusal{"table": tableRefusals(), "key": keyRefusals(), "column": columnRefusals()} {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			n := 0
			for name, test := range cases {
				n++
				schema := fmt.Sprintf("s%d", n)
				db.Run(t, "CREATE SCHEMA "+schema)
				t.Run(name, func(t *testing.T) {
					inSchema(t, db, schema, test.setup)
					r := ask(schema)
					if test.ask != nil {
						test.ask(&r)
					}
					if strings.Contains(test.message, "%[1]s") || strings.Contains(test.message, "%s") {
						test.message = fmt.Sprintf(test.message, schema)
					}
					refused(t, db.DB, db.DB, r, test)
				})
			}
		})
	}
}

func TestPreflightRefusesATemporaryTable(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `CREATE TEMPORARY TABLE t (id int PRIMARY KEY, email text)`); err != nil {
		t.Fatal(err)
	}
	schema := testenv.One[string](t, conn, `SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 't' AND relpersistence = 't'`)
	refused(t, db.DB, db.DB, ask(schema), refusal{field: "table", message: schema + ".t is temporary: what is committed there may be lost", hint: "SET LOGGED"})
}

// role makes a role with these rights and connects as it.
func role(t *testing.T, db *testenv.DB, name, attributes string, rights ...string) *pg.DB {
	t.Helper()
	name += "_" + testenv.One[string](t, db, `SELECT current_database()::text`)
	db.Run(t, "CREATE ROLE "+pg.Ident(name)+" "+attributes)
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			if _, err := db.Exec(context.WithoutCancel(t.Context()), sql+pg.Ident(name)); err != nil {
				t.Error(err)
			}
		}
	})
	for _, right := range rights {
		db.Run(t, fmt.Sprintf(right, pg.Ident(name)))
	}
	return withSetting(t, db.URL, "role", name).DB
}

// withSetting connects with one setting of the session.
func withSetting(t *testing.T, to, name, value string) *testenv.DB {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return testenv.Open(t, u.String())
}

const (
	schemaUse = `GRANT USAGE ON SCHEMA public TO %s`
	registry  = `GRANT USAGE ON SCHEMA cipherfleet TO %[1]s; GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %[1]s`
	owns      = `ALTER TABLE t OWNER TO %s`
)

func TestPreflightRefusesWithoutRights(t *testing.T) {
	t.Parallel()
	fleet := `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea, other text)`
	for name, test := range map[string]struct {
		rights     []string
		attributes string
		setup      string
		ask        func(*messages.StartRequest)
		want       refusal
	}{
		"no right to the schema": {rights: []string{registry}, want: refusal{field: "table", message: `role "%s" may not use schema "secret"`, hint: "GRANT USAGE ON SCHEMA"},
			setup: `CREATE SCHEMA secret; ALTER TABLE t SET SCHEMA secret`, ask: func(r *messages.StartRequest) { r.Schema = "secret" }},
		"not the owner": {rights: []string{schemaUse, registry, `GRANT ALL ON t TO %s`}, want: refusal{field: "table", message: `role "%s" may not alter public.t`, hint: "as the owner"}},
		"hidden rows": {rights: []string{schemaUse, registry, owns}, setup: `ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY`,
			want: refusal{code: app.CodeRefused, kind: messages.CodeRefused, field: "table", message: `row security hides rows of public.t from role "%s": they would be left as they are`, hint: "BYPASSRLS"}},
		"no right to skip": {rights: []string{schemaUse, registry, owns}, ask: skip, want: refusal{field: "user_triggers",
			message: `skipping triggers needs the right to set session_replication_role, which role "%s" does not have`, hint: "GRANT SET ON PARAMETER"}},
		"an owner without rights": {rights: []string{schemaUse, registry, owns, `REVOKE ALL ON t FROM %s`}, want: refusal{field: "table", message: `role "%s" may not read the row versions (xmin) of public.t`, hint: "GRANT SELECT ON TABLE"}},
		"an owner who may not write": {rights: []string{schemaUse, registry, owns, `REVOKE UPDATE ON t FROM %s`}, want: refusal{field: "columns[0].target",
			message: `role "%s" may not read and write column "email_encrypted" of public.t`, hint: "GRANT SELECT, UPDATE ON TABLE"}},
		"an owner who may read but the source": {rights: []string{schemaUse, registry, owns, `REVOKE SELECT ON t FROM %[1]s; GRANT SELECT (id, xmin, email_encrypted) ON t TO %[1]s`},
			want: refusal{field: "columns[0].source", message: `role "%s" may not read column "email" of public.t`, hint: "GRANT SELECT ON TABLE"}},
		"an owner who may read but the key": {rights: []string{schemaUse, registry, owns, `REVOKE SELECT ON t FROM %[1]s; GRANT SELECT (xmin, email, email_encrypted) ON t TO %[1]s`},
			want: refusal{field: "key", message: `role "%s" may not read key column "id" of public.t`, hint: "GRANT SELECT ON TABLE"}},
		"no right to install": {rights: []string{schemaUse, owns}, setup: `DROP SCHEMA cipherfleet CASCADE`, want: refusal{field: "",
			message: `schema cipherfleet is not installed in database "%[2]s", and role "%[1]s" may not create it`, hint: "cipherfleet install"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			db.Run(t, fleet)
			as := role(t, db, "r", test.attributes, test.rights...)
			if test.setup != "" {
				db.Run(t, test.setup)
			}
			r := ask("public")
			if test.ask != nil {
				test.ask(&r)
			}
			if test.want.code == 0 {
				test.want.code, test.want.kind = app.CodeDenied, messages.CodeDenied
			}
			user, database := testenv.One[string](t, as, `SELECT current_user::text`), testenv.One[string](t, as, `SELECT current_database()::text`)
			test.want.message = strings.NewReplacer("%[1]s", user, "%[2]s", database, "%s", user).Replace(test.want.message)
			if strings.Contains(test.setup, "DROP SCHEMA cipherfleet") {
				refusedUninstalled(t, as, r, test.want)
				return
			}
			refused(t, db.DB, as, r, test.want)
		})
	}
}

// refusedUninstalled is refused where there is no schema cipherfleet to compare.
func refusedUninstalled(t *testing.T, db *pg.DB, r messages.StartRequest, want refusal) {
	t.Helper()
	_, err := control.Preflight(t.Context(), db, r)
	var have *control.Refusal
	if !errors.As(err, &have) || have.Code != want.code || have.Message != want.message || !strings.Contains(have.Hint, want.hint) {
		t.Errorf("have %+v, want %+v", err, want)
	}
	if testenv.One[bool](t, db, `SELECT to_regnamespace('cipherfleet') IS NOT NULL`) {
		t.Error("schema cipherfleet was made")
	}
}

func TestPreflightOfAnUnreadableRegistryIsDenied(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, users)
	as := role(t, db, "r", "", schemaUse, owns)
	_, err := control.Preflight(t.Context(), as, ask("public"))
	if code, hint := app.Explain(err); code != app.CodeDenied || hint == "" {
		t.Errorf("have %v, exit code %d, hint %q", err, code, hint)
	}
}

func TestPreflightRefusesAReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, users)
	name := testenv.One[string](t, db, `SELECT current_database()::text`)
	reader := withSetting(t, db.URL, "default_transaction_read_only", "on")
	refused(t, db.DB, reader.DB, ask("public"), refusal{message: `database "` + name + `" is read-only by default_transaction_read_only`, hint: "off"})
}

func TestPreflightRefusesAStandby(t *testing.T) {
	t.Parallel()
	server := testenv.DurablePostgres(t)
	db := testenv.Open(t, server.URL("postgres"))
	db.Run(t, users)
	db.Run(t, `COPY (SELECT) TO `+pg.Literal(testenv.One[string](t, db, `SHOW data_directory`)+"/standby.signal"))
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := control.Preflight(t.Context(), testenv.Open(t, server.URL("postgres")).DB, ask("public"))
	var have *control.Refusal
	if !errors.As(err, &have) || have.Message != `database "postgres" is on a standby, where nothing can be written` || have.Code != app.CodeRefused || !strings.Contains(have.Hint, "primary") {
		t.Errorf("have %v", err)
	}
}

func TestPreflightOfOtherEncodings(t *testing.T) {
	t.Parallel()
	admin := testenv.EmptyDatabase(t)
	name := testenv.One[string](t, admin, `SELECT current_database()::text`) + "_latin"
	admin.Run(t, `CREATE DATABASE `+pg.Ident(name)+` TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`)
	t.Cleanup(func() {
		if _, err := admin.Exec(context.WithoutCancel(t.Context()), `DROP DATABASE `+pg.Ident(name)+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(admin.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	db := testenv.Open(t, u.String())
	if err := lifecycle.Install(t.Context(), db.DB); err != nil {
		t.Fatal(err)
	}
	db.Run(t, `CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, email text, n int, b bytea)`)
	hint := "move the data to a UTF8 database"
	refused(t, db.DB, db.DB, ask("public"), refusal{field: "columns[0].source", message: `column "email" is text, and the encoding of database "` + name + `" is LATIN1, not UTF8`, hint: hint})
	r := ask("public")
	columns("n", "b")(&r)
	if _, err := control.Preflight(t.Context(), db.DB, r); err != nil {
		t.Errorf("numbers and bytes: %v", err)
	}
	r.Key = []string{"code"}
	refused(t, db.DB, db.DB, r, refusal{field: "key", message: `column "code" is text, and the encoding of database "` + name + `" is LATIN1, not UTF8`, hint: hint})
}

// register puts a column into the registry.
func register(t *testing.T, db *testenv.DB, source, target string) lifecycle.Column {
	t.Helper()
	relation, err := pg.Inspect(t.Context(), db, "public", "t")
	if err != nil {
		t.Fatal(err)
	}
	from, _ := relation.Column(source)
	to, _ := relation.Column(target)
	var c lifecycle.Column
	err = db.InTx(t.Context(), func(tx pg.Tx) (err error) {
		c, err = lifecycle.RegisterColumn(t.Context(), tx, lifecycle.Column{Relid: relation.OID, SourceNum: from.Attnum, TargetNum: to.Attnum,
			Table: relation.Table(), Source: source, Target: target, Type: from.Type})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPreflightKnowsTheRegistry(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea, name text, name_encrypted bytea)`)
	c := register(t, db, "email", "email_encrypted")
	refuse := func(ask2 func(*messages.StartRequest), kind, field, message, hint string) {
		t.Helper()
		r := ask("public")
		ask2(&r)
		refused(t, db.DB, db.DB, r, refusal{kind: kind, field: field, message: message, hint: hint})
	}
	refuse(columns("email_encrypted>x"), messages.CodeRefused, "columns[0].source", `column "email_encrypted" holds cells already: it is the target of "email"`, "plaintext column")
	refuse(columns("email>x"), messages.CodeConflict, "columns[0].target", `column "email" is being moved to "email_encrypted" already`, `--target as "email_encrypted"`)
	refuse(columns("name>email_encrypted"), messages.CodeConflict, "columns[0].target", `column "email_encrypted" is the target of "email" already`, "another target")

	plan := planned(t, db, ask("public"))
	if plan.Columns[0].Registered.ID != c.ID || plan.Columns[0].Guarded || plan.Columns[0].Add || !plan.Installed {
		t.Errorf("have %+v", plan.Columns[0])
	}
	prefix := cell.Prefix(c.ID)
	ours := append(prefix[:], make([]byte, cell.MinLength)...)
	db.Run(t, `INSERT INTO t VALUES (1, 'x', $1)`, ours)
	planned(t, db, ask("public"))
	db.Run(t, `INSERT INTO t VALUES (2, 'x', $1)`, ours[:cell.MinLength-1])
	refuse(unprepared, messages.CodeRefused, "columns[0].target", `target "email_encrypted" of public.t holds values that are no cells of this column`, "empty this one")
	db.Run(t, `DELETE FROM t`)

	guard := ddl.Column{ID: c.ID, Table: pg.Table{Schema: "public", Name: "t"}, Source: "email", Target: "email_encrypted", Key: []string{"id"}}
	for _, step := range []ddl.Step{guard.Check(), guard.Validate(), guard.Capture()} {
		if planned(t, db, ask("public")).Columns[0].Guarded {
			t.Error("the column counts as guarded before its last step")
		}
		for _, sql := range step.Do {
			db.Run(t, sql)
		}
	}
	if plan := planned(t, db, ask("public")); !plan.Columns[0].Guarded || len(plan.Triggers) > 0 {
		t.Errorf("have %+v", plan.Columns[0])
	}
	lesser := role(t, db, "lesser", "", schemaUse, registry, `GRANT SELECT, UPDATE ON t TO %s`)
	if _, err := control.Preflight(t.Context(), lesser, ask("public")); err != nil {
		t.Errorf("a guarded column needs no owner, but have %v", err)
	}
	db.Run(t, `ALTER TABLE t ENABLE REPLICA TRIGGER "`+fmt.Sprintf("%s%d_update", ddl.TriggerPrefix, c.ID)+`"`)
	if planned(t, db, ask("public")).Columns[0].Guarded {
		t.Error("a column whose capture is not always enabled counts as guarded")
	}
}

func planned(t *testing.T, db *testenv.DB, r messages.StartRequest) control.Plan {
	t.Helper()
	plan, err := control.Preflight(t.Context(), db.DB, r)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}
