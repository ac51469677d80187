package ddl_test

import (
	"context"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// However the user renames, an application's write neither fails nor leaves a stale cell.
func TestCaptureFollowsRenames(t *testing.T) {
	t.Parallel()
	for name, rename := range map[string]string{
		"source": `ALTER TABLE users RENAME email TO "E-Mail"; ALTER TABLE users ADD COLUMN email text`,
		"target": `ALTER TABLE users RENAME cell TO "the 'new' cell"; ALTER TABLE users ADD COLUMN cell bytea`,
		"swap":   `ALTER TABLE users RENAME email TO x; ALTER TABLE users RENAME cell TO email; ALTER TABLE users RENAME x TO cell`,
		"key":    `ALTER TABLE users RENAME id TO "No"`,
		"table":  `ALTER TABLE users RENAME TO people; CREATE TABLE users (id int)`,
		"schema": `CREATE SCHEMA old; ALTER TABLE users SET SCHEMA old`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := users(t, "text")
			f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
			relation := testenv.One[uint32](t, f, "SELECT 'users'::regclass::oid")
			f.Run(t, rename)
			now := f.Column
			now.Table.Schema, now.Table.Name = lookUp(t, f, relation)
			now.Key = []string{nameOf(t, f, relation, 1)}
			now.Source, now.Target = nameOf(t, f, relation, 2), nameOf(t, f, relation, 4)
			f = fixture{f.DB, now}
			f.write(t, "", "UPDATE "+now.Table.SQL()+" SET note = 'm'")
			f.wantCovered(t, true, "a write elsewhere")
			f.write(t, "", "UPDATE "+now.Table.SQL()+" SET "+pg.Ident(now.Source)+" = 'bob'")
			f.wantCovered(t, false, "a write to the source")
			if n := f.missed(t); n != 1 {
				t.Errorf("missed = %d, want 1", n)
			}
		})
	}
}

func lookUp(t *testing.T, f fixture, relation uint32) (schema, name string) {
	t.Helper()
	err := f.QueryRow(t.Context(), "SELECT relnamespace::regnamespace::text, relname FROM pg_class WHERE oid = $1", relation).Scan(&schema, &name)
	if err != nil {
		t.Fatal(err)
	}
	return schema, name
}

func nameOf(t *testing.T, f fixture, relation uint32, attnum int) string {
	t.Helper()
	return testenv.One[string](t, f, "SELECT attname::text FROM pg_attribute WHERE attrelid = $1 AND attnum = $2", relation, attnum)
}

// Without its check capture cannot find the target, but it still lets the application write.
func TestCaptureNeverFailsAWrite(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
	f.do(t, f.Check().Undo)
	f.write(t, "", "UPDATE users SET email = 'bob'")
}

// The role may write its own table, and nothing else in the database.
func TestCaptureNeedsNoRightsInOurSchema(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
	role := "app_" + testenv.One[string](t, f, "SELECT substr(md5(random()::text), 1, 12)")
	f.Run(t, "CREATE ROLE "+role+"; GRANT INSERT, UPDATE, SELECT ON users TO "+role)
	t.Cleanup(func() { // roles belong to the server: they outlive the database
		if _, err := f.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	function := testenv.One[uint32](t, f, "SELECT 'cipherfleet.capture_7'::regproc::oid")
	err := f.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL ROLE "+role); err != nil {
			return err
		}
		if testenv.One[bool](t, tx, "SELECT has_schema_privilege('cipherfleet', 'usage') OR has_function_privilege($1::oid, 'execute')", function) {
			t.Error("the role sees schema cipherfleet")
		}
		_, err := tx.Exec(t.Context(), "UPDATE users SET email = 'bob'")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.wantCovered(t, false, "a write by a role without rights")
	if n := f.missed(t); n != 1 {
		t.Errorf("missed = %d, want 1", n)
	}
}

// A leaf attached later has its columns at other places than the root.
func partitioned(t *testing.T) fixture {
	t.Helper()
	c := ddl.Column{ID: 7, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "cell", Key: []string{"region", "id"}}
	return prepare(t, c, `CREATE TABLE users (region int, id int, email text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
		CREATE TABLE users_1 PARTITION OF users FOR VALUES IN (1);
		CREATE TABLE users_2 (gone int, also_gone bytea, email text, id int NOT NULL, junk bytea, region int NOT NULL);
		ALTER TABLE users_2 DROP COLUMN gone, DROP COLUMN also_gone, DROP COLUMN junk;
		ALTER TABLE users ATTACH PARTITION users_2 FOR VALUES IN (2)`)
}

func TestCaptureWorksInEveryPartition(t *testing.T) {
	t.Parallel()
	f := partitioned(t)
	f.Run(t, "CREATE TABLE users_3 PARTITION OF users FOR VALUES IN (3)")
	for _, region := range []int{1, 2, 3} {
		f.Run(t, "TRUNCATE users")
		f.write(t, "", "INSERT INTO users VALUES ($1, 1, 'a', $2)", region, cellOf(7))
		f.wantCovered(t, false, "an insert with a cloned cell")
		f.write(t, ddl.WriterClient, "UPDATE users SET cell = $1", cellOf(7))
		f.write(t, "", "UPDATE ONLY "+[]string{"", "users_1", "users_2", "users_3"}[region]+" SET email = 'b'")
		f.wantCovered(t, false, "a write to the leaf")
		if row := testenv.One[string](t, f, "SELECT concat_ws(',', id, email) FROM users"); row != "1,b" {
			t.Errorf("region %d: the row became %s", region, row)
		}
	}
	if n := testenv.One[int64](t, f, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~cipherfleet%' AND tgenabled = 'A'"); n != 8 {
		t.Errorf("%d triggers are always enabled, want 2 in the root and 2 in each of 3 leaves", n)
	}
}

func TestCaptureClearsARowThatMovesToAnotherPartition(t *testing.T) {
	t.Parallel()
	f := partitioned(t)
	f.write(t, ddl.WriterClient, "INSERT INTO users VALUES (1, 1, 'a', $1)", cellOf(7))
	f.wantCovered(t, true, "an insert by a client")
	f.write(t, "", "UPDATE users SET region = 2")
	f.wantCovered(t, false, "a move by an application")
	f.write(t, ddl.WriterClient, "UPDATE users SET region = 1, cell = $1", cellOf(7))
	f.wantCovered(t, true, "a move by a client")
}

// A dump carries no oids: what finds the column again is the name of its check.
func TestCaptureSurvivesACopyOfTheTable(t *testing.T) {
	t.Parallel()
	f := users(t, "text", "ALTER TABLE users DROP COLUMN note")
	definitions := testenv.Column[string](t, f, `SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'users'::regclass ORDER BY tgname`)
	f.Run(t, `DROP TABLE users; CREATE TABLE users (id bigint PRIMARY KEY, email text, cell bytea,
		CONSTRAINT cipherfleet_7_cell CHECK (cell IS NULL OR octet_length(cell) >= 32))`)
	for _, definition := range definitions {
		f.Run(t, definition)
	}
	f.write(t, ddl.WriterClient, "INSERT INTO users VALUES (1, 'a', $1)", cellOf(7))
	f.write(t, "", "UPDATE users SET email = 'b'")
	f.wantCovered(t, false, "a write after the restore")
}
