package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/residue"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// secret is in every value of the plaintext; nothing that residue says may hold it.
const secret = "@example.org"

// residueOf is what residue says of users.email; it must not change anything, nor show a value.
func residueOf(t *testing.T, db *testenv.DB, s *shell, args ...string) residueReport {
	t.Helper()
	var report residueReport
	unchanged(t, db, func() {
		o := s.run(append([]string{"residue", "users.email", "--json"}, args...)...)
		if o.code != app.CodeDone && o.code != app.CodeWaiting || strings.Contains(o.out+o.err, secret) {
			t.Fatalf("exit code %d\n%s%s", o.code, o.out, o.err)
		}
		report = parsed[residueReport](t, o.out)
		if (report.Left > 0) != (o.code == app.CodeWaiting) || len(report.Checklist) < 5 {
			t.Errorf("exit code %d with %d left, %d to check", o.code, report.Left, len(report.Checklist))
		}
	})
	return report
}

func find(r residueReport, kind, where string) (residue.Finding, bool) {
	at := slices.IndexFunc(r.Findings, func(f residue.Finding) bool { return f.Kind == kind && f.Where == where })
	if at < 0 {
		return residue.Finding{}, false
	}
	return r.Findings[at], true
}

func residues(r residueReport) (list []string) {
	for _, f := range r.Findings {
		list = append(list, f.Kind+" "+f.Where)
	}
	return list
}

// TestResidueFindsEachKind while the plaintext is still there: one table without it, and then with it.
func TestResidueFindsEachKind(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 200)
	db.Run(t, `ALTER TABLE users SET (autovacuum_enabled = off)`)
	const copier = `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO users_audit VALUES (to_jsonb(old)); RETURN new; END'; CREATE TABLE users_audit (what jsonb); CREATE TRIGGER keep BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION keep()`
	db.Run(t, `CREATE INDEX cipherfleet_1_uncovered_7 ON users (id) WHERE (email IS NULL) = (email_plaintext IS NOT NULL)`)
	if f, there := find(residueOf(t, db, s), residue.Index, "public.cipherfleet_1_uncovered_7"); there {
		t.Errorf("our own index holds keys of rows, and is taken for one of values: %+v", f)
	}
	for _, tc := range []struct{ setup, kind, where, undo string }{
		{`SELECT`, residue.Plaintext, "public.users.email_plaintext", ""},
		{`ANALYZE users`, residue.Statistics, "public.users.email_plaintext", ""},
		{`CREATE INDEX low ON users (lower(email_plaintext)); ANALYZE users`, residue.Index, "public.low", `DROP INDEX low`},
		{`CREATE INDEX low ON users (lower(email_plaintext)); ANALYZE users`, residue.Statistics, "public.low.lower", `DROP INDEX low`},
		{`CREATE UNIQUE INDEX part ON users (id) WHERE email_plaintext LIKE 'user1%'`, residue.Index, "public.part", `DROP INDEX part`},
		{`ALTER TABLE users ADD CONSTRAINT one UNIQUE (email_plaintext)`, residue.Index, "public.one", `ALTER TABLE users DROP CONSTRAINT one`},
		{`CREATE INDEX left_over_ccnew ON users (email_plaintext); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'left_over_ccnew'::regclass`, residue.InvalidIndex, "public.left_over_ccnew", `DROP INDEX left_over_ccnew`},
		{`CREATE STATISTICS together ON email_plaintext, note FROM users`, residue.Extended, "public.together", `DROP STATISTICS together`},
		{`CREATE VIEW shown AS SELECT email_plaintext AS e FROM users`, residue.View, "public.shown", `DROP VIEW shown`},
		{`CREATE MATERIALIZED VIEW kept AS SELECT email_plaintext AS e FROM users`, residue.Matview, "public.kept", `DROP MATERIALIZED VIEW kept`},
		{`CREATE VIEW shown AS SELECT email_plaintext AS e FROM users; CREATE MATERIALIZED VIEW deep AS TABLE shown`, residue.Matview, "public.deep", `DROP VIEW shown CASCADE`},
		{`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; CREATE TRIGGER t BEFORE UPDATE OF email_plaintext ON users FOR EACH ROW EXECUTE FUNCTION f()`, residue.Trigger, "t on public.users", `DROP FUNCTION f() CASCADE`},
		{copier, residue.Trigger, "public.keep", `DROP FUNCTION keep() CASCADE; DROP TABLE users_audit`},
		{copier, residue.Copy, "public.users_audit.what", `DROP FUNCTION keep() CASCADE; DROP TABLE users_audit`},
		{`CREATE FUNCTION mails() RETURNS SETOF text LANGUAGE sql AS 'SELECT email_plaintext FROM users'`, residue.Function, "public.mails()", `DROP FUNCTION mails()`},
		{`CREATE PUBLICATION p FOR TABLE users`, residue.Publication, "p", `DROP PUBLICATION p`},
		{`CREATE SUBSCRIPTION sub CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE, enabled = false, create_slot = false);
INSERT INTO pg_subscription_rel SELECT s.oid, 'users'::regclass, 'r' FROM pg_subscription s WHERE subname = 'sub'`, residue.Subscription, "sub", `DROP SUBSCRIPTION sub`},
		{`CREATE TABLE users_2024 (id int, email varchar(50))`, residue.Copy, "public.users_2024.email", `DROP TABLE users_2024`},
		{`CREATE TABLE backup (email_plaintext text)`, residue.Copy, "public.backup.email_plaintext", `DROP TABLE backup`},
		{`CREATE EXTENSION pg_stat_statements`, residue.Extension, "pg_stat_statements", `DROP EXTENSION pg_stat_statements`},
		{`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET log_statement = ''all''', current_database()); END $$`, residue.Logging, fmt.Sprintf("log_statement of database %s", testenv.One[string](t, db, `SELECT current_database()`)),
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET log_statement', current_database()); END $$`},
		{`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database()); END $$`, residue.Extension, fmt.Sprintf("auto_explain.log_min_duration of database %s", testenv.One[string](t, db, `SELECT current_database()`)),
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET auto_explain.log_min_duration', current_database()); END $$`},
	} {
		if tc.undo != "" {
			if _, there := find(residueOf(t, db, s), tc.kind, tc.where); there {
				t.Errorf("%s %s is found before it is there", tc.kind, tc.where)
			}
		}
		db.Run(t, tc.setup)
		if f, there := find(residueOf(t, db, s), tc.kind, tc.where); !there || f.Says == "" || f.Then == "" {
			t.Errorf("%s %s is not found, or says nothing: %+v in %s", tc.kind, tc.where, f, residues(residueOf(t, db, s)))
		}
		if tc.undo != "" {
			db.Run(t, tc.undo)
		}
	}
}

// TestResidueFindsSlots that keep the log from before, on a server of its own.
func TestResidueFindsSlots(t *testing.T) {
	t.Parallel()
	db := testenv.Open(t, testenv.DurablePostgres(t).URL("postgres"))
	s, slot := cutOverIn(t, db, 20), "kept"
	db.Run(t, `SELECT pg_create_physical_replication_slot('kept', true)`)
	if f, there := find(residueOf(t, db, s), residue.Slot, slot); !there || !strings.Contains(f.Says, "nobody reads it") {
		t.Errorf("the slot is not found: %+v", f)
	}
	s.must("drop", "users.email", "--apply")
	s.run("residue", "users.email", "--clean", "--rewrite")
	if _, there := find(residueOf(t, db, s), residue.Slot, slot); !there {
		t.Error("the slot still keeps what was before the table was rewritten")
	}
	db.Run(t, `CHECKPOINT`) // a new slot begins at the last one
	db.Run(t, `SELECT pg_drop_replication_slot('kept'); SELECT pg_create_physical_replication_slot('kept', true)`)
	if r := residueOf(t, db, s); len(r.Findings) > 0 {
		t.Errorf("a slot of later is found: %s", residues(r))
	}
}

// TestResidueAfterTheDrop measures what dropping a column leaves in the table, and cleans it.
func TestResidueAfterTheDrop(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 500)
	db.Run(t, `ALTER TABLE users SET (autovacuum_enabled = off)`)
	db.Run(t, `UPDATE users SET email_plaintext = (SELECT string_agg(md5(g::text || id), '') || '`+secret+`' FROM generate_series(1, 300) g) WHERE id = 1`)
	s.must("drop", "users.email", "--apply")

	r := residueOf(t, db, s)
	if f, there := find(r, residue.Heap, "public.users"); !there || !strings.Contains(f.Says, "not measurable without extension pageinspect") || !f.Rewrites {
		t.Errorf("without pageinspect: %+v", f)
	}
	db.Run(t, `CREATE SCHEMA "My ext"; CREATE EXTENSION pageinspect SCHEMA "My ext"`)
	r = residueOf(t, db, s)
	f, _ := find(r, residue.Heap, "public.users")
	carried, read := 0, 0
	if _, err := fmt.Sscanf(f.Says, "%d of %d row versions still carry the dropped column", &carried, &read); err != nil || carried < 450 || read < 500 || carried > read-50 { // every tenth value is NULL
		t.Errorf("measured: %+v", f)
	}
	if _, there := find(r, residue.Dead, "public.users"); !there {
		t.Errorf("dead rows are not found in %s", residues(r))
	}
	if !slices.ContainsFunc(r.Findings, func(f residue.Finding) bool { return f.Kind == residue.Toast }) {
		t.Errorf("TOAST is not found in %s", residues(r))
	}

	unchanged(t, db, func() {
		o := s.run("residue", "users.email", "--clean", "--rewrite", "--dry-run")
		if o.code != app.CodeWaiting || !strings.Contains(o.err, "nobody can read or write it meanwhile, for about 1 s") || !strings.Contains(o.err, `VACUUM (FULL, ANALYZE) "public"."users"`) {
			t.Errorf("a dry run: exit code %d\n%s", o.code, o.err)
		}
	})
	before := testenv.One[uint32](t, db, `SELECT relfilenode FROM pg_class WHERE relname = 'users'`)
	o := s.run("residue", "users.email", "--clean")
	if o.code != app.CodeWaiting || !strings.Contains(o.err, "hint: --clean --rewrite deals with what is in the table itself") || strings.Contains(o.out, "\ndead-rows ") {
		t.Errorf("VACUUM alone: exit code %d\n%s%s", o.code, o.out, o.err)
	}
	if testenv.One[uint32](t, db, `SELECT relfilenode FROM pg_class WHERE relname = 'users'`) != before {
		t.Error("it rewrote the table unasked")
	}
	o = s.run("residue", "users.email", "--clean", "--rewrite")
	if o.code != app.CodeDone || !strings.Contains(o.out, "public.users.email: dropped, 0 findings\n") || !strings.Contains(o.out, "[ ] backups and snapshots: ") {
		t.Errorf("after rewriting: exit code %d\n%s%s", o.code, o.out, o.err)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM "My ext".heap_page_items("My ext".get_raw_page('users', 0)) WHERE t_data::text LIKE '%' || encode('`+secret+`', 'hex') || '%'`); n != 0 {
		t.Errorf("%d row versions still hold it", n)
	}
	if got := testenv.One[string](t, db, `SELECT string_agg(concat_ws(' ', details->>'rewritten', details->>'left', phase), ', ' ORDER BY id) FROM cipherfleet.events WHERE event = 'cleaned'`); got != "false 2 dropped, true 0 dropped" {
		t.Errorf("the log says %s", got)
	}
	db.Run(t, `DROP EXTENSION pageinspect`)
	if o := s.run("residue", "users.email"); o.code != app.CodeDone {
		t.Errorf("that it was rewritten is forgotten: %s", o.out)
	}
}

// TestResidueOfPartitions looks into each, also where the column had another number.
func TestResidueOfPartitions(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, email text) PARTITION BY RANGE (id); CREATE TABLE users_1 PARTITION OF users FOR VALUES FROM (0) TO (50);
CREATE TABLE users_2 (gone int, email text, id int PRIMARY KEY); ALTER TABLE users_2 DROP gone; ALTER TABLE users ATTACH PARTITION users_2 FOR VALUES FROM (50) TO (500);
INSERT INTO users SELECT g, 'user' || g || '@example.org' FROM generate_series(1, 100) g; CREATE EXTENSION pageinspect`)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	cutByHand(t, db, pg.Table{Schema: "public", Name: "users"}, "email", "id")
	s.must("drop", "users.email", "--apply")
	db.Run(t, `CREATE TABLE users_3 PARTITION OF users FOR VALUES FROM (500) TO (900); INSERT INTO users (id) VALUES (600)`)
	r := residueOf(t, db, s)
	for leaf, want := range map[string]bool{"users_1": true, "users_2": true, "users_3": false} {
		if f, there := find(r, residue.Heap, "public."+leaf); there != want || want && !strings.Contains(f.Says, " row versions still carry the dropped column") {
			t.Errorf("%s: %+v", leaf, f)
		}
	}
	if o := s.run("residue", "users.email", "--clean", "--rewrite"); o.code != app.CodeDone {
		t.Errorf("cleaned: %s", o.out)
	}
}

// TestCleaningAColumnThatWasEmptied before its drop: statistics and indexes are made anew, and what an interrupted
// build left is dropped.
func TestCleaningAColumnThatWasEmptied(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 200)
	db.Run(t, `CREATE INDEX by_plain ON users (email_plaintext); CREATE INDEX left_over_ccnew ON users (email_plaintext);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'left_over_ccnew'::regclass; ANALYZE users`)
	db.Run(t, `UPDATE users SET email_plaintext = NULL`)
	old := testenv.One[uint32](t, db, `SELECT relfilenode FROM pg_class WHERE relname = 'by_plain'`)
	s.run("residue", "users.email", "--clean")
	r := residueOf(t, db, s)
	if _, there := find(r, residue.Statistics, "public.users.email_plaintext"); there {
		t.Error("statistics still hold values")
	}
	if _, there := find(r, residue.InvalidIndex, "public.left_over_ccnew"); there {
		t.Error("the leftover is still there")
	}
	s.run("residue", "users.email", "--clean")
	if testenv.One[uint32](t, db, `SELECT relfilenode FROM pg_class WHERE relname = 'by_plain'`) == old {
		t.Error("the index was not built anew")
	}
}

func TestResidueAccepts(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 20)
	db.Run(t, `VACUUM users`)
	s.must("drop", "users.email", "--apply")
	if o := s.run("residue", "users.email"); o.code != app.CodeWaiting || !strings.Contains(o.err, "is left, or may be: 1 findings") {
		t.Errorf("exit code %d\n%s%s", o.code, o.out, o.err)
	}
	o := s.run("residue", "users.email", "--accept", residue.Heap)
	if o.code != app.CodeDone || !strings.Contains(o.out, "heap public.users (accepted)\n") {
		t.Errorf("exit code %d\n%s%s", o.code, o.out, o.err)
	}
}

func TestResidueRefuses(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 20)
	_, at := role(t, db, "reader", `GRANT USAGE ON SCHEMA cipherfleet, public TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet, public TO %s`)
	reader := newShell(t, at)
	unchanged(t, db, func() {
		for call, want := range map[string]struct {
			code          int
			message, hint string
		}{
			"users.email --rewrite":         {app.CodeUsage, "add --clean", "--help"},
			"users.email --dry-run":         {app.CodeUsage, "--dry-run is about --clean", "--help"},
			"users.email --accept dust":     {app.CodeUsage, `--accept was "dust"; accepted is plaintext, heap,`, "--help"},
			"users":                         {app.CodeUsage, "a column is named table.column", "--help"},
			"users.mail":                    {app.CodeRefused, `column "mail" of public.users is not registered`, "cipherfleet status"},
			"users.email --clean --rewrite": {app.CodeRefused, "still has its plaintext, column email_plaintext", "`cipherfleet drop users.email` comes first"},
		} {
			s.run(append([]string{"residue"}, strings.Fields(call)...)...).refusedWith(t, want.code, want.message, want.hint)
		}
		reader.run("residue", "users.email", "--clean").refusedWith(t, app.CodeDenied, "may not clean public.users", "owner of the table")
	})
	if o := reader.run("residue", "users.email"); o.code != app.CodeWaiting {
		t.Errorf("who may read may look: exit code %d\n%s", o.code, o.err)
	}
}
