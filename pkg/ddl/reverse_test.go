package ddl_test

import (
	"context"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// cutOver is a prepared table after its cutover: email holds cells, email_plaintext what was there before.
func cutOver(t *testing.T, f fixture) fixture {
	t.Helper()
	f.do(t, f.Capture().Undo)
	f.Run(t, "ALTER TABLE "+f.Table.SQL()+" RENAME email TO email_plaintext; ALTER TABLE "+f.Table.SQL()+" RENAME cell TO email")
	f.Source, f.Target = "email_plaintext", "email"
	f.do(t, f.ReverseCapture().Do)
	return f
}

// wantPlain says whether the only row still has its plaintext.
func (f fixture) wantPlain(t *testing.T, want bool, after string) {
	t.Helper()
	if testenv.One[bool](t, f, "SELECT "+pg.Ident(f.Source)+" IS NOT NULL FROM "+f.Table.SQL()) != want {
		t.Errorf("after %s: plaintext there = %t, want %t", after, !want, want)
	}
}

const insertBoth = "INSERT INTO users VALUES (1, 'alice@example.com', 'n', $1)"

// otherCell is a cell of column 7 that differs from cellOf(7).
func otherCell() []byte { return append(cellOf(7), 2) }

func TestReverseCaptureClearsThePlaintextOfAChangedCell(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		writer, change string
		cell           []byte
		kept           bool
	}{
		"another column":              {"", "UPDATE users SET note = 'm'", nil, true},
		"the same cell":               {"", "UPDATE users SET email = $1", cellOf(7), true},
		"another cell":                {"", "UPDATE users SET email = $1", otherCell(), false},
		"another cell, same plain":    {"", "UPDATE users SET email = $1, email_plaintext = email_plaintext", otherCell(), false},
		"no cell":                     {"", "UPDATE users SET email = NULL", nil, false},
		"another key, the same cell":  {"", "UPDATE users SET id = 2", nil, true},
		"another key and cell":        {"", "UPDATE users SET id = 2, email = $1", otherCell(), false},
		"a client's cell alone":       {ddl.WriterClient, "UPDATE users SET email = $1", otherCell(), false},
		"no cell, by a client":        {ddl.WriterClient, "UPDATE users SET email = NULL", nil, false},
		"a plaintext alone":           {"", "UPDATE users SET email_plaintext = 'b'", nil, true},
		"both by a client":            {ddl.WriterClient, "UPDATE users SET email = $1, email_plaintext = 'b'", otherCell(), true},
		"the fleet's plaintext":       {ddl.WriterFleet, "UPDATE users SET email_plaintext = 'b'", nil, true},
		"the fleet's, cell changed":   {ddl.WriterFleet, "UPDATE users SET email_plaintext = 'b', email = $1", otherCell(), false},
		"a cell sealed anew":          {ddl.WriterRotation, "UPDATE users SET email = $1", otherCell(), true},
		"no cell, by a rotation":      {ddl.WriterRotation, "UPDATE users SET email = NULL", nil, false},
		"an upsert of another's cell": {"", "INSERT INTO users VALUES (1, 'x', 'n', NULL) ON CONFLICT (id) DO UPDATE SET email = $1", otherCell(), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := cutOver(t, users(t, "text"))
			f.write(t, ddl.WriterClient, insertBoth, cellOf(7))
			f.wantPlain(t, true, "an insert by a client")
			var args []any
			if tc.cell != nil {
				args = []any{tc.cell}
			}
			f.write(t, tc.writer, tc.change, args...)
			f.wantPlain(t, tc.kept, name)
		})
	}
}

func TestReverseCaptureClearsAnInsertedPlaintext(t *testing.T) {
	t.Parallel()
	f := cutOver(t, users(t, "text"))
	for _, writer := range []string{"", ddl.WriterFleet, "CLIENT"} {
		f.Run(t, "TRUNCATE users")
		f.write(t, writer, insertBoth, cellOf(7))
		f.wantPlain(t, false, "an insert by "+writer)
	}
	f.Run(t, "TRUNCATE users")
	f.write(t, "", "INSERT INTO users VALUES (1, 'of somebody who knows no cells', 'n')")
	f.wantPlain(t, true, "an insert without a cell")
	f.Run(t, "TRUNCATE users; ALTER TABLE users ALTER email_plaintext SET DEFAULT 'nobody'")
	f.write(t, "", "INSERT INTO users (id, email) VALUES (1, $1)", cellOf(7))
	f.wantPlain(t, false, "a default")
	if n := testenv.One[int64](t, f, ddl.ReverseMissed(7)); n != 4 {
		t.Errorf("missed = %d, want 4", n)
	}
}

func TestReverseCaptureFiresInReplicaRole(t *testing.T) {
	t.Parallel()
	f := cutOver(t, users(t, "text"))
	f.write(t, ddl.WriterClient, insertBoth, cellOf(7))
	f.Run(t, "BEGIN; SET LOCAL session_replication_role = replica; UPDATE users SET email = NULL; COMMIT")
	f.wantPlain(t, false, "an update in replica role")
}

// A composite value with an empty field is neither NULL nor not NULL.
func TestReverseCaptureClearsACompositePlaintext(t *testing.T) {
	t.Parallel()
	c := usersColumn()
	f := cutOver(t, prepare(t, c, "CREATE TYPE pair AS (a int, b text); CREATE TABLE users (id bigint PRIMARY KEY, email pair, note text)"))
	f.write(t, ddl.WriterClient, "INSERT INTO users (id, email_plaintext, email) VALUES (1, '(1,)', $1)", cellOf(7))
	f.write(t, "", "UPDATE users SET email = $1", otherCell())
	if !testenv.One[bool](t, f, "SELECT email_plaintext IS NOT DISTINCT FROM NULL FROM users") {
		t.Error("a composite plaintext is stale")
	}
}

// A trigger of the user's that changes the cell is seen whatever its name.
func TestReverseCaptureFiresLast(t *testing.T) {
	t.Parallel()
	f := cutOver(t, users(t, "text"))
	f.write(t, ddl.WriterClient, insertBoth, cellOf(7))
	f.Run(t, `CREATE FUNCTION emptying() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.email := NULL; RETURN new; END';
		CREATE TRIGGER zzz BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION emptying()`)
	f.write(t, "", "UPDATE users SET note = 'the trigger empties the cell'")
	f.wantPlain(t, false, "a change of the cell by trigger zzz")
}

func TestReverseCaptureFollowsRenames(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ rename, plain, cell string }{
		"plaintext": {`ALTER TABLE users RENAME email_plaintext TO "Old 'E'"; ALTER TABLE users ADD COLUMN email_plaintext text`, "Old 'E'", "email"},
		"cell":      {`ALTER TABLE users RENAME email TO "E-Mail"; ALTER TABLE users ADD COLUMN email text`, "email_plaintext", "E-Mail"},
		"swap":      {`ALTER TABLE users RENAME email TO x; ALTER TABLE users RENAME email_plaintext TO email; ALTER TABLE users RENAME x TO cell`, "email", "cell"},
		"key":       {`ALTER TABLE users RENAME id TO "No"`, "email_plaintext", "email"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := cutOver(t, users(t, "text"))
			f.write(t, ddl.WriterClient, insertBoth, cellOf(7))
			f.Run(t, tc.rename)
			f.Source, f.Target = tc.plain, tc.cell
			f.write(t, "", "UPDATE users SET note = 'm'")
			f.wantPlain(t, true, "a write elsewhere")
			f.write(t, "", "UPDATE users SET "+pg.Ident(tc.cell)+" = NULL")
			f.wantPlain(t, false, "a write to the cell")
		})
	}
}

// Without its marker it cannot find the plaintext, and without its counter not count; the application still writes.
func TestReverseCaptureNeverFailsAWrite(t *testing.T) {
	t.Parallel()
	f := cutOver(t, users(t, "text"))
	f.write(t, ddl.WriterClient, insertBoth, cellOf(7))
	f.Run(t, "DROP SEQUENCE cipherfleet.reverse_missed_7")
	f.write(t, "", "UPDATE users SET email = $1", otherCell())
	f.wantPlain(t, false, "a write without the counter")
	f.write(t, ddl.WriterFleet, "UPDATE users SET email_plaintext = 'b'")
	f.Run(t, `DROP TRIGGER "~cipherfleet_7_reverse_source" ON users`)
	f.write(t, "", "UPDATE users SET email = NULL")
}

func TestReverseCaptureNeedsNoRightsInOurSchema(t *testing.T) {
	t.Parallel()
	f := cutOver(t, users(t, "text"))
	f.write(t, ddl.WriterClient, insertBoth, cellOf(7))
	role := "app_" + testenv.One[string](t, f, "SELECT substr(md5(random()::text), 1, 12)")
	f.Run(t, "CREATE ROLE "+role+"; GRANT UPDATE (email), SELECT ON users TO "+role)
	t.Cleanup(func() { // roles belong to the server: they outlive the database
		if _, err := f.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	f.Run(t, "BEGIN; SET LOCAL ROLE "+role+"; UPDATE users SET email = NULL; COMMIT")
	f.wantPlain(t, false, "a write by a role without rights")
}

func TestReverseCaptureReachesPartitions(t *testing.T) {
	t.Parallel()
	f := cutOver(t, partitioned(t))
	f.Run(t, `CREATE TABLE users_3 (junk int, email bytea, region int NOT NULL, email_plaintext text, id int NOT NULL); ALTER TABLE users_3 DROP COLUMN junk`)
	f.Run(t, `ALTER TABLE users_3 ADD CONSTRAINT cipherfleet_7_cell CHECK (email IS NULL OR (octet_length(email) >= 44 AND substr(email, 1, 7) = 'x'))`)
	f.Run(t, "ALTER TABLE users_3 DROP CONSTRAINT cipherfleet_7_cell")
	copyCheck := testenv.One[string](t, f, "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'users'::regclass AND conname = 'cipherfleet_7_cell'")
	f.Run(t, "ALTER TABLE users_3 ADD CONSTRAINT cipherfleet_7_cell "+copyCheck)
	f.Run(t, "ALTER TABLE users ATTACH PARTITION users_3 FOR VALUES IN (3)")
	for region := 1; region <= 3; region++ {
		f.Run(t, "TRUNCATE users")
		f.write(t, ddl.WriterClient, "INSERT INTO users (region, id, email_plaintext, email) VALUES ($1, 1, 'a', $2)", region, cellOf(7))
		f.wantPlain(t, true, "an insert by a client")
		f.write(t, "", "UPDATE users SET email = $1", otherCell())
		f.wantPlain(t, false, "a write of another cell")
	}
}

// A row that moves to another partition is inserted there: its plaintext goes with it, and nobody else's.
func TestReverseCaptureLetsAPlaintextMoveToAnotherPartition(t *testing.T) {
	t.Parallel()
	f := cutOver(t, partitioned(t))
	const insert = "INSERT INTO users (region, id, email_plaintext, email) VALUES ($1, $2, 'a', $3)"
	for _, to := range []int{2, 1} {
		f.Run(t, "TRUNCATE users")
		f.write(t, ddl.WriterClient, insert, 3-to, 1, cellOf(7))
		f.write(t, "", "UPDATE users SET region = $1", to)
		f.wantPlain(t, true, "a move to another partition")
		f.write(t, "", "UPDATE users SET region = $1, email = $2", 3-to, otherCell())
		f.wantPlain(t, false, "a move with another cell")
	}
	f.Run(t, "TRUNCATE users")
	f.write(t, ddl.WriterClient, insert, 1, 1, cellOf(7))
	err := f.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "UPDATE users SET region = 2"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), insert, 1, 2, otherCell())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := testenv.One[int](t, f, "SELECT count(*) FROM users WHERE (email_plaintext IS NULL) = (id = 2)"); n != 2 {
		t.Error("an insert behind a move kept a plaintext, or the move lost one")
	}
	f.Run(t, "DELETE FROM users WHERE id = 2")
	f.write(t, "", insert, 1, 3, cellOf(7))
	if n := testenv.One[int](t, f, "SELECT count(*) FROM users WHERE id = 3 AND email_plaintext IS NULL"); n != 1 {
		t.Error("a transaction after a move kept a plaintext")
	}
}

func TestReverseCaptureUnderAHostileSearchPath(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.Run(t, `CREATE SCHEMA evil; CREATE FUNCTION evil.yes(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
		CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes)`)
	f.do(t, f.Capture().Undo)
	f.Run(t, "ALTER TABLE users RENAME email TO email_plaintext; ALTER TABLE users RENAME cell TO email")
	f.Source, f.Target = "email_plaintext", "email"
	f.do(t, append([]string{"SET LOCAL search_path = evil, pg_catalog, public", "SET LOCAL standard_conforming_strings = off"}, f.ReverseCapture().Do...))
	f.hostile(t, func(tx pg.Tx) error {
		_, err := tx.Exec(t.Context(), insertBoth, cellOf(7))
		return err
	})
	f.wantPlain(t, false, "an insert")
	watch := ddl.Watch{Key: f.Key, Columns: []ddl.Column{f.Column}}
	parts := testenv.Column[string](t, f, "SELECT p.part FROM ("+watch.Parts()+") p", testenv.One[uint32](t, f, "SELECT 'users'::regclass::oid"))
	if len(parts) != 12 {
		t.Errorf("%d parts watched, want 12: %v", len(parts), parts)
	}
}

// Installing it again changes nothing, and repairs what was altered.
func TestReverseCaptureIsRepeatable(t *testing.T) {
	t.Parallel()
	f := cutOver(t, users(t, "text"))
	before := testenv.One[string](t, f, everything)
	f.Run(t, `ALTER TABLE users DISABLE TRIGGER "~cipherfleet_7_reverse_update"; DROP TRIGGER "~cipherfleet_7_reverse_insert" ON users`)
	f.do(t, f.ReverseCapture().Do)
	if testenv.One[string](t, f, "SELECT concat(count(*), min(tgenabled::text), max(tgenabled::text)) FROM pg_trigger WHERE tgrelid = 'users'::regclass") != "6AA" {
		t.Error("a trigger is missing or not always enabled")
	}
	f.do(t, f.ReverseCapture().Do)
	f.do(t, f.ReverseCapture().Undo)
	f.do(t, f.ReverseCapture().Undo)
	if testenv.One[string](t, f, everything) == before {
		t.Error("undoing changed nothing")
	}
}

// A plaintext that is written without its cell leaves a cell of another value, which nobody sees without the key: it is
// on record who did.
func TestWhoWritesThePlaintextAloneIsRecorded(t *testing.T) {
	t.Parallel()
	f := cutOver(t, users(t, "text"))
	const late, client, fleet = "SET LOCAL application_name = 'late'", "; SET LOCAL " + ddl.WriterSetting + " = 'client'", "; SET LOCAL " + ddl.WriterSetting + " = 'fleet'"
	f.as(t, late+client, insertBoth, cellOf(7))
	for _, elsewhere := range []string{"note = 'm'", "id = 2", "email_plaintext = email_plaintext", "email = NULL, email_plaintext = NULL"} {
		f.as(t, late, "UPDATE users SET "+elsewhere)
	}
	f.wantRecord(t, "")
	f.as(t, late+client, "UPDATE users SET email_plaintext = 'b', email = $1", cellOf(7))
	f.as(t, late, "UPDATE users SET email = $1", otherCell())
	f.as(t, late+fleet, "UPDATE users SET email_plaintext = 'opened'")
	f.wantRecord(t, "")
	f.as(t, late, "UPDATE users SET email_plaintext = 'alone'")
	f.wantRecord(t, "late %s 1")
	f.as(t, late+client, "UPDATE users SET email_plaintext = NULL")
	f.wantRecord(t, "late %s 1")
	f.as(t, late+client, "UPDATE users SET email_plaintext = 'alone'")
	f.wantRecord(t, "late %s 2")
	f.as(t, late, "INSERT INTO users VALUES (3, 'alone', 'n'), (4, NULL, 'n')")
	f.wantRecord(t, "late %s 3")
	f.as(t, late, "UPDATE users SET email_plaintext = 'other' WHERE id = 3")
	f.wantRecord(t, "late %s 4")
	f.as(t, late, "UPDATE users SET email_plaintext = NULL WHERE id = 3")
	f.wantRecord(t, "late %s 4")
	f.Run(t, "DROP TABLE cipherfleet.missed_writes")
	f.as(t, late, "UPDATE users SET email_plaintext = 'a write never fails for the record' WHERE id = 3")
}
