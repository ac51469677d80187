package ddl_test

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const insertCovered = "INSERT INTO users VALUES (1, 'alice@example.com', 'n', $1)"

func TestCaptureClearsAChangedSource(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
	f.write(t, "", "UPDATE users SET note = 'm'")
	f.wantCovered(t, true, "a write to another column")
	f.write(t, "", "UPDATE users SET email = email")
	f.wantCovered(t, true, "a write of the same value")
	f.write(t, "", "UPDATE users SET email = 'bob@example.com', cell = cell")
	f.wantCovered(t, false, "a write to the source")
	if got := testenv.One[string](t, f, "SELECT concat_ws(',', id, email, note) FROM users"); got != "1,bob@example.com,m" {
		t.Errorf("the rest of the row became %s", got)
	}
}

func TestCaptureLetsTheClientsCellSurvive(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
	f.wantCovered(t, true, "an insert by a client")
	f.write(t, ddl.WriterClient, "UPDATE users SET email = 'bob@example.com', id = 2, cell = $1", otherCell())
	f.wantCovered(t, true, "an update by a client")
	f.write(t, ddl.WriterClient, "UPDATE users SET email = email, note = 'm', cell = cell")
	f.wantCovered(t, true, "a client's write of the same values")
	f.write(t, ddl.WriterClient, "UPDATE users SET email = NULL, cell = NULL")
	if n := f.missed(t); n != 0 {
		t.Errorf("missed = %d, want 0", n)
	}
}

// A role that says client of all its sessions may still have a path that writes the source alone.
func TestCaptureClearsWhatAClientKept(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	for what, update := range map[string]string{"source": "email = 'bob@example.com'", "key": "id = 2", "both, and the old cell": "id = 3, email = 'carol@example.com', cell = cell"} {
		f.Run(t, "TRUNCATE users")
		f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
		f.write(t, ddl.WriterClient, "UPDATE users SET "+update)
		f.wantCovered(t, false, "a client's write of "+what)
	}
	if n := f.missed(t); n != 3 {
		t.Errorf("missed = %d, want 3", n)
	}
}

func TestCaptureClearsAClonedCellOnInsert(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	for _, writer := range []string{"", ddl.WriterFleet, "CLIENT", "client "} {
		f.Run(t, "TRUNCATE users")
		f.write(t, writer, insertCovered, cellOf(7))
		f.wantCovered(t, false, fmt.Sprintf("an insert with a filled target by %q", writer))
	}
	f.Run(t, "INSERT INTO users VALUES (1, 'x', 'n', NULL) ON CONFLICT (id) DO UPDATE SET email = excluded.email, cell = excluded.cell")
	f.wantCovered(t, false, "an upsert")
}

func TestCaptureClearsWhenTheKeyChanges(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
	f.write(t, "", "UPDATE users SET id = 2")
	f.wantCovered(t, false, "a change of the key")
}

// With the fleet's cell on its way, another trigger changes the source: the cell would be of the value before.
func TestCaptureClearsTheFleetsCellWhenATriggerChangedTheSource(t *testing.T) {
	t.Parallel()
	f := users(t, "text", lowering("lower_email"))
	f.Run(t, "INSERT INTO users VALUES (1, 'a', 'n')")
	f.write(t, ddl.WriterFleet, "UPDATE users SET cell = $1", cellOf(7))
	f.wantCovered(t, true, "the fleet's write of a settled row")
	f.Run(t, "ALTER TABLE users DISABLE TRIGGER lower_email; UPDATE users SET email = 'ALICE', cell = NULL; ALTER TABLE users ENABLE TRIGGER lower_email")
	f.write(t, ddl.WriterFleet, "UPDATE users SET cell = $1", cellOf(7))
	if email := testenv.One[string](t, f, "SELECT email FROM users"); email != "alice" {
		t.Fatalf("the user's trigger did not run: %s", email)
	}
	f.wantCovered(t, false, "the fleet's write, with a trigger that changed the source")
}

// lowering is a BEFORE trigger of the user's that changes the source.
func lowering(name string) string {
	return fmt.Sprintf(`CREATE FUNCTION lowering() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.email := lower(new.email); RETURN new; END';
		CREATE TRIGGER %s BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION lowering()`, pg.Ident(name))
}

// Triggers fire in the order of their names: one named zzz must still come before capture.
func TestCaptureFiresLast(t *testing.T) {
	t.Parallel()
	f := users(t, "text", lowering("zzz"))
	f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
	f.Run(t, "ALTER TABLE users DISABLE TRIGGER zzz")
	f.write(t, ddl.WriterClient, "UPDATE users SET email = 'ALICE'")
	f.Run(t, "ALTER TABLE users ENABLE TRIGGER zzz")
	f.write(t, "", "UPDATE users SET note = 'the trigger changes the source'")
	f.wantCovered(t, false, "a change of the source by trigger zzz")
}

// A trigger that fires as by origin only would not see what a subscription or a restore writes.
func TestCaptureFiresInReplicaRole(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
	f.Run(t, "BEGIN; SET LOCAL session_replication_role = replica; UPDATE users SET email = 'bob'; COMMIT")
	f.wantCovered(t, false, "an update in replica role")
	f.Run(t, "DELETE FROM users")
	err := f.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL session_replication_role = replica"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), insertCovered, cellOf(7))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.wantCovered(t, false, "an insert in replica role")
}

// IS DISTINCT FROM calls these values equal; their bytes, and so their cells, differ. On json it would fail.
func TestCaptureComparesImages(t *testing.T) {
	t.Parallel()
	type change struct{ setup, sourceType, before, after string }
	changes := map[string]change{
		"numeric scale":     {"", "numeric", "1.10", "1.1"},
		"interval":          {"", "interval", "30 days", "1 mon"},
		"any-case text":     {`CREATE COLLATION "any-case" (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`, `text COLLATE "any-case"`, "Alice", "alice"},
		"json":              {"", "json", `{"a":1}`, `{"a": 1}`},
		"negative zero":     {"", "float8", "0", "-0"},
		"time in two zones": {"", "timetz", "10:00+02", "08:00+00"},
		"value to null":     {"", "text", "a", ""},
	}
	if testenv.One[bool](t, testenv.EmptyDatabase(t), "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext')") {
		changes["citext"] = change{"CREATE EXTENSION citext", "citext", "Alice", "alice"}
	}
	for name, tc := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := usersColumn()
			f := prepare(t, c, tc.setup, "CREATE TABLE users (id bigint PRIMARY KEY, email "+tc.sourceType+")")
			for _, known := range []map[string]uint32{f.Types, nil} {
				f.Types = known
				f.do(t, f.Capture().Do)
				f.Run(t, "TRUNCATE users")
				f.write(t, ddl.WriterClient, "INSERT INTO users VALUES (1, '"+tc.before+"', $1)", cellOf(7))
				f.write(t, "", "UPDATE users SET email = '"+tc.before+"'")
				f.wantCovered(t, true, "the same value again")
				f.write(t, "", "UPDATE users SET email = nullif('"+tc.after+"', '')::"+tc.sourceType)
				f.wantCovered(t, false, "a value with another image")
			}
		})
	}
}

func TestCaptureCountsWhatItCaught(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	if n := f.missed(t); n != 0 {
		t.Fatalf("missed = %d before any write", n)
	}
	for _, w := range []struct {
		writer, sql string
		adds        int64
	}{
		{"", "INSERT INTO users SELECT g, 'a', 'n', '" + asHex(cellOf(7)) + "' FROM generate_series(1, 3) g", 3},
		{ddl.WriterClient, "UPDATE users SET cell = '" + asHex(cellOf(7)) + "'", 0},
		{"", "UPDATE users SET note = 'not missed'", 0},
		{"", "UPDATE users SET email = 'missed' WHERE id <= 2", 2},
		{"", "UPDATE users SET email = 'uncovered before' WHERE id <= 2", 2},
		{ddl.WriterClient, "UPDATE users SET email = 'uncovered before, by a client' WHERE id <= 2", 2},
		{"", "UPDATE users SET note = 'uncovered, but its source stays' WHERE id <= 2", 0},
		{"", "UPDATE users SET email = NULL WHERE id <= 2", 0},
		{ddl.WriterClient, "INSERT INTO users VALUES (4, 'without a cell')", 1},
		{"", "INSERT INTO users VALUES (5, 'without a cell')", 1},
		{"", "INSERT INTO users VALUES (6, NULL)", 0},
		{"", "DELETE FROM users", 0},
	} {
		before := f.missed(t)
		f.write(t, w.writer, w.sql)
		if n := f.missed(t) - before; n != w.adds {
			t.Errorf("%s by %q: %d missed, want %d", w.sql, w.writer, n, w.adds)
		}
	}
}

func asHex(b []byte) string { return fmt.Sprintf(`\x%x`, b) }

// Whoever drops the counter loses the count; the application must not lose its writes.
func TestCaptureWorksWithoutItsCounter(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.write(t, ddl.WriterClient, "INSERT INTO users SELECT 1, 'a', 'n', $1", cellOf(7))
	f.write(t, "", "DROP SEQUENCE "+ddl.MissedSequence(7))
	f.write(t, "", "UPDATE users SET email = 'missed'")
	if n := testenv.One[int64](t, f, "SELECT count(*) FROM users WHERE cell IS NOT NULL"); n != 0 {
		t.Errorf("%d cells are stale", n)
	}
}

// Every field but the target must come through the function as it went in.
func TestCaptureKeepsTheRestOfTheRow(t *testing.T) {
	t.Parallel()
	c := usersColumn()
	f := prepare(t, c, `CREATE DOMAIN positive AS int NOT NULL CHECK (value > 0); CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad', 'ok');
		CREATE TABLE users (gone int, id bigint PRIMARY KEY, email text, d positive, p pair, m mood, a text[], n numeric, f float8, b bytea,
		 j json, x xml, i interval, r int4range, "TaRget" text, big text, g int GENERATED ALWAYS AS (id * 2) STORED)`, `ALTER TABLE users DROP COLUMN gone`)
	const row = `SELECT md5(concat_ws('|', id, email, d, p, m, a, n, f, encode(b, 'hex'), j, x, i, r, "TaRget", md5(big), g)) FROM users`
	f.write(t, ddl.WriterClient, `INSERT INTO users VALUES (1, 'a', 5, (1, NULL), 'ok', '[0:1]={a,NULL}', '1.10', '-0', '\x00ff', '{"a": 1,  "a":2}', '<a> </a>', '30 days', '[1,5)', 'other',
		repeat('long', 100000), DEFAULT, $1)`, cellOf(7))
	before := testenv.One[string](t, f, row)
	f.write(t, "", "UPDATE users SET email = 'b'")
	f.wantCovered(t, false, "the write")
	f.write(t, "", "UPDATE users SET email = 'a'")
	if testenv.One[string](t, f, row) != before {
		t.Error("another field changed on its way")
	}
}

func TestEachColumnOfATableHasItsOwnCapture(t *testing.T) {
	t.Parallel()
	f := users(t, "text", "ALTER TABLE users ADD COLUMN phone text")
	other := f.Column
	other.ID, other.Source, other.Target = 10, "phone", "phone_cell"
	for _, step := range []ddl.Step{other.AddTarget(), other.Check(), other.Capture()} {
		f.do(t, step.Do)
	}
	f.write(t, ddl.WriterClient, "INSERT INTO users VALUES (1, 'a', 'n', '1', $1, $2)", cellOf(7), cellOf(10))
	f.write(t, "", "UPDATE users SET phone = '2'")
	covered := fixture{f.DB, other}
	covered.wantCovered(t, false, "a write to phone")
	f.wantCovered(t, true, "a write to phone")
	f.write(t, "", "UPDATE users SET id = 2")
	f.wantCovered(t, false, "a change of the key")
}
