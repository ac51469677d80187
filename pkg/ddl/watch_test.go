package ddl_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// watched is a watch of one relation.
type watched struct {
	ddl.Watch
	relation uint32
}

func (f fixture) watch(t *testing.T, relation string) watched {
	t.Helper()
	oid := testenv.One[uint32](t, f, "SELECT $1::text::regclass::oid", relation)
	return watched{ddl.Watch{Key: f.Key, Columns: []ddl.Column{f.Column}}, oid}
}

func (f fixture) parts(t *testing.T, w watched) []ddl.Part {
	t.Helper()
	rows, err := f.Query(t.Context(), w.Parts(), w.relation)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ddl.Part])
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestWatchSeesEveryChange(t *testing.T) {
	t.Parallel()
	capture := ddl.Step{Do: usersColumn().Capture().Undo}
	for name, tc := range map[string]struct{ change, want string }{
		"table renamed":       {"ALTER TABLE users RENAME TO people", "table was public.users, now public.people"},
		"schema renamed":      {"CREATE SCHEMA other; ALTER TABLE users SET SCHEMA other", "table was public.users, now other.users"},
		"source renamed":      {"ALTER TABLE users RENAME email TO mail", "column email is gone"},
		"target renamed":      {"ALTER TABLE users RENAME cell TO email_cell", "column cell is gone"},
		"key renamed":         {"ALTER TABLE users RENAME id TO no", "column id is gone"},
		"names swapped":       {"ALTER TABLE users RENAME email TO x; ALTER TABLE users RENAME note TO email; ALTER TABLE users RENAME x TO note", "column email was number 2 text"},
		"key type":            {"ALTER TABLE users DROP CONSTRAINT users_pkey; " + strings.Join(capture.Do, ";") + "; ALTER TABLE users ALTER id TYPE numeric", "column id was number 1 bigint"},
		"target dropped":      {"ALTER TABLE users DROP COLUMN cell CASCADE", "check cipherfleet_7_cell is gone"},
		"key index dropped":   {"ALTER TABLE users DROP CONSTRAINT users_pkey", "key index is gone"},
		"check dropped":       {"ALTER TABLE users DROP CONSTRAINT cipherfleet_7_cell", "check cipherfleet_7_cell is gone"},
		"check replaced":      {"ALTER TABLE users DROP CONSTRAINT cipherfleet_7_cell, ADD CONSTRAINT cipherfleet_7_cell CHECK (cell IS NULL OR true)", "check cipherfleet_7_cell has another definition"},
		"check not validated": {"ALTER TABLE users DROP CONSTRAINT cipherfleet_7_cell; " + usersColumn().Check().Do[0], "check cipherfleet_7_cell was validated on column number {4}, now not validated"},
		"capture dropped":     {`DROP TRIGGER "~cipherfleet_7_update" ON users`, "trigger ~cipherfleet_7_update is gone"},
		"capture disabled":    {`ALTER TABLE users DISABLE TRIGGER "~cipherfleet_7_insert"`, "trigger ~cipherfleet_7_insert was always enabled, now disabled"},
		"capture not always":  {`ALTER TABLE users ENABLE TRIGGER "~cipherfleet_7_update"`, "trigger ~cipherfleet_7_update was always enabled, now enabled for some"},
		"capture replaced": {`CREATE OR REPLACE TRIGGER "~cipherfleet_7_update" BEFORE UPDATE ON users FOR EACH ROW WHEN (new.email IS DISTINCT FROM old.email) EXECUTE FUNCTION cipherfleet.capture_7();
			ALTER TABLE users ENABLE ALWAYS TRIGGER "~cipherfleet_7_update"`, "trigger ~cipherfleet_7_update has another definition"},
		"function replaced":    {`CREATE OR REPLACE FUNCTION cipherfleet.capture_7() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`, "has another definition"},
		"condition replaced":   {`CREATE OR REPLACE FUNCTION cipherfleet.misses_7(new_target bytea, old_target bytea, new_1 bigint, new_2 text, old_1 bigint, old_2 text) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN false; END'`, "function misses_7 has another definition"},
		"condition of inserts": {`CREATE OR REPLACE FUNCTION cipherfleet.misses_insert_7(new_target bytea, new_source text) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN false; END'`, "function misses_insert_7 has another definition"},
		"a later trigger":      {`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER "~later" BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f()`, "trigger ~later is new"},
		"another collation":    {strings.Join(capture.Do, ";") + `; ALTER TABLE users ALTER email TYPE text COLLATE "C"`, "column email was number 2 text collation 100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := users(t, "text")
			w := f.watch(t, "users")
			parts, print := f.parts(t, w), testenv.One[string](t, f, w.Fingerprint(), w.relation)
			f.Run(t, tc.change)
			changes := ddl.Changes(parts, f.parts(t, w))
			if !slices.ContainsFunc(changes, func(c string) bool { return strings.Contains(c, tc.want) }) {
				t.Errorf("changes = %q, want one with %q", changes, tc.want)
			}
			if testenv.One[string](t, f, w.Fingerprint(), w.relation) == print {
				t.Error("the fingerprint stayed")
			}
		})
	}
}

func TestWatchIgnoresWhatDoesNotMatter(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	w := f.watch(t, "users")
	parts, print := f.parts(t, w), testenv.One[string](t, f, w.Fingerprint(), w.relation)
	f.Run(t, `ALTER TABLE users ADD COLUMN more int, DROP COLUMN note; CREATE INDEX ON users (email); ANALYZE users; INSERT INTO users VALUES (1, 'a');
		CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER audit AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f();
		CREATE TRIGGER "~later" BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION f()`)
	f.do(t, f.Capture().Do)
	f.Run(t, "REINDEX TABLE CONCURRENTLY users")
	f.Run(t, "VACUUM FULL users")
	if changes := ddl.Changes(parts, f.parts(t, w)); changes != nil {
		t.Errorf("changes = %q", changes)
	}
	f.Run(t, "SET search_path = pg_catalog")
	if testenv.One[string](t, f, w.Fingerprint(), w.relation) != print {
		t.Error("the fingerprint moved")
	}
}

func TestWatchOfALeafSeesItsRoot(t *testing.T) {
	t.Parallel()
	f := partitioned(t)
	w := f.watch(t, "users_2")
	before := f.parts(t, w)
	if len(before) != 12 {
		t.Errorf("%d parts, want 12: %v", len(before), before)
	}
	f.Run(t, `CREATE OR REPLACE FUNCTION cipherfleet.misses_insert_7(new_target bytea, new_source text) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN false; END'`)
	if changes := ddl.Changes(before, f.parts(t, w)); !slices.Equal(changes, []string{"function misses_insert_7 has another definition"}) {
		t.Errorf("changes = %q", changes)
	}
	f.do(t, f.Capture().Do)
	f.Run(t, "ALTER TABLE users RENAME TO people")
	if changes := ddl.Changes(before, f.parts(t, w)); !slices.Equal(changes, []string{"root was public.users, now public.people"}) {
		t.Errorf("changes = %q", changes)
	}
	f.Run(t, "ALTER TABLE people DETACH PARTITION users_2")
	if changes := ddl.Changes(before, f.parts(t, w)); !slices.Contains(changes, "root is gone, or has another name") {
		t.Errorf("changes = %q", changes)
	}
}

func TestWatchOfATableThatIsGone(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	w := f.watch(t, "users")
	print := testenv.One[string](t, f, w.Fingerprint(), w.relation)
	f.Run(t, "DROP TABLE users")
	if len(f.parts(t, w)) != 0 || testenv.One[string](t, f, w.Fingerprint(), w.relation) == print {
		t.Error("a dropped table still has parts")
	}
}

func BenchmarkFingerprint(b *testing.B) {
	db := testenv.Database(b)
	c := usersColumn()
	db.Run(b, "CREATE TABLE users (id bigint PRIMARY KEY, email text)")
	for _, step := range []ddl.Step{c.AddTarget(), c.Check(), c.Capture()} {
		for _, sql := range step.Do {
			db.Run(b, sql)
		}
	}
	w := ddl.Watch{Key: c.Key, Columns: []ddl.Column{c}}
	relation := testenv.One[uint32](b, db, "SELECT 'users'::regclass::oid")
	for b.Loop() {
		var print string
		if err := db.QueryRow(b.Context(), w.Fingerprint(), relation).Scan(&print); err != nil {
			b.Fatal(err)
		}
	}
}
