package ddl_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// record is who missed how many writes, as "application role writes" for each.
func (f fixture) record(t *testing.T) string {
	t.Helper()
	return testenv.One[string](t, f, `SELECT coalesce(string_agg(w, '; ' ORDER BY w), '') FROM
		(SELECT concat_ws(' ', application, role, sum(writes)) w FROM cipherfleet.missed_writes WHERE column_id = $1 GROUP BY application, role) x`, f.ID)
}

// wantRecord leaves the name of the role that the tests log in by to %s.
func (f fixture) wantRecord(t *testing.T, want string) {
	t.Helper()
	want = strings.ReplaceAll(want, "%s", testenv.One[string](t, f, "SELECT session_user::text"))
	if got := f.record(t); got != want {
		t.Errorf("recorded is %q, want %q", got, want)
	}
}

// as writes in one transaction, after the given settings.
func (f fixture) as(t *testing.T, settings, sql string, args ...any) {
	t.Helper()
	err := f.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), settings); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// role makes a role of the server for this test, with rights on the table alone.
func (f fixture) role(t *testing.T) string {
	t.Helper()
	role := "app_" + testenv.One[string](t, f, "SELECT substr(md5(random()::text), 1, 12)")
	f.Run(t, "CREATE ROLE "+role+"; GRANT INSERT, UPDATE, SELECT, DELETE ON users TO "+role)
	t.Cleanup(func() {
		if _, err := f.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	return role
}

func TestAMissedWriteIsRecordedByName(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.as(t, "SET LOCAL application_name = 'billing'", "INSERT INTO users VALUES (1, 'a'), (2, 'b')")
	f.as(t, "SET LOCAL application_name = 'web'", "UPDATE users SET email = 'c' WHERE id = 1")
	f.as(t, "SET LOCAL application_name = ''", "UPDATE users SET email = 'd' WHERE id = 1")
	f.as(t, "SET LOCAL application_name = 'web'; SET LOCAL "+ddl.WriterSetting+" = 'client'", "UPDATE users SET email = 'e', cell = $1", cellOf(7))
	f.as(t, "SET LOCAL application_name = 'web'", "UPDATE users SET note = 'm'")
	f.wantRecord(t, " %s 1; billing %s 2; web %s 1")
}

// A pool logs in as one role and takes on others; a function may run as its owner. The role that logged in has the
// password, and so a deployment that a person can find.
func TestTheRoleOnRecordIsTheOneThatLoggedIn(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	taken, owner := f.role(t), f.role(t)
	f.Run(t, `CREATE FUNCTION rename(text) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'UPDATE users SET email = $1';
		ALTER FUNCTION rename(text) OWNER TO `+owner)
	f.as(t, "SET LOCAL application_name = 'pool'; SET LOCAL ROLE "+taken, "INSERT INTO users VALUES (1, 'a')")
	f.as(t, "SET LOCAL application_name = 'pool'; SET LOCAL ROLE "+taken, "SELECT rename('b')")
	f.wantRecord(t, "pool %s 2")
	f.as(t, "SET LOCAL application_name = 'direct'; SET LOCAL SESSION AUTHORIZATION "+taken, "UPDATE users SET email = 'c'")
	f.wantRecord(t, "direct "+taken+" 1; pool %s 2")
}

func TestAMissedWriteThatRolledBackIsNotRecorded(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.Run(t, "BEGIN; INSERT INTO users VALUES (1, 'a'); ROLLBACK")
	f.wantRecord(t, "")
	f.Run(t, "BEGIN; SAVEPOINT s; INSERT INTO users VALUES (1, 'a'); ROLLBACK TO s; INSERT INTO users VALUES (2, 'a'); COMMIT")
	f.wantRecord(t, "cipherfleet-test %s 1")
}

func TestAMissedWriteInReplicaRoleIsRecorded(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.as(t, "SET LOCAL session_replication_role = replica; SET LOCAL application_name = 'subscription'", "INSERT INTO users VALUES (1, 'a')")
	f.wantRecord(t, "subscription %s 1")
}

// A bulk load adds a few dozen rows to the record, not one for each of its own, and never counts too many.
func TestABulkOfMissedWritesIsRecordedInDoublings(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.Run(t, "INSERT INTO users SELECT g, 'a' FROM generate_series(1, 16) g")
	f.wantRecord(t, "cipherfleet-test %s 16")
	f.Run(t, "INSERT INTO users SELECT g, 'a' FROM generate_series(17, 5016) g")
	if writes := testenv.One[int64](t, f, "SELECT sum(writes) FROM cipherfleet.missed_writes"); writes != 16+4096 {
		t.Errorf("%d writes are recorded of 16 and 5000, want 16 and 4096", writes)
	}
	if rows := testenv.One[int64](t, f, "SELECT count(*) FROM cipherfleet.missed_writes"); rows != 16+16+8 {
		t.Errorf("they take %d rows", rows)
	}
	if n := f.missed(t); n != 5016 {
		t.Errorf("the sequence counts %d", n)
	}
}

// The application's write goes on whatever was done to the record, and is caught all the same.
func TestAMissedWriteGoesOnWithoutItsRecord(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"dropped":        "DROP TABLE cipherfleet.missed_writes",
		"column renamed": "ALTER TABLE cipherfleet.missed_writes RENAME role TO who",
		"always refused": "ALTER TABLE cipherfleet.missed_writes ADD CHECK (false) NOT VALID",
		"not ours":       "CREATE ROLE {role}; ALTER FUNCTION cipherfleet.capture_7() OWNER TO {role}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := users(t, "text")
			role := "owner_" + testenv.One[string](t, f, "SELECT substr(md5(random()::text), 1, 12)")
			f.Run(t, strings.ReplaceAll(harm, "{role}", role))
			t.Cleanup(func() {
				if _, err := f.Exec(context.Background(), "DROP FUNCTION IF EXISTS cipherfleet.capture_7() CASCADE; DROP ROLE IF EXISTS "+role); err != nil {
					t.Error(err)
				}
			})
			f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
			f.write(t, "", "UPDATE users SET email = 'b'")
			f.wantCovered(t, false, "a write without a record")
		})
	}
}

// The number of a transaction's missed writes so far is a setting, which anybody may set to anything.
func TestAMissedWriteIsRecordedWhateverItsCountIsSetTo(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	for i, nonsense := range []string{"many", "-1", "9999999999999999999999", "1e9", "'"} {
		f.as(t, "SET LOCAL cipherfleet.missed_7 = "+pg.Literal(nonsense), "INSERT INTO users VALUES ($1, 'a')", i)
	}
	f.wantRecord(t, "cipherfleet-test %s 5")
}

// Somebody who alters the record holds no application up.
func TestAMissedWriteDoesNotWaitForItsRecord(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	tx, err := f.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background()) //nolint:errcheck // it only holds the lock
	if _, err := tx.Exec(t.Context(), "LOCK TABLE cipherfleet.missed_writes IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	f.as(t, "SET LOCAL lock_timeout = '1ms'", "INSERT INTO users VALUES (1, 'a')")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wantRecord(t, "")
	if n := f.missed(t); n != 1 {
		t.Errorf("the sequence counts %d", n)
	}
}

// Each of a hundred transactions stays open over its missed write until all have written: if one had to wait for
// another, it would wait for ever.
func TestMissedWritersNeverWaitForEachOther(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	const writers = 100
	limits := testenv.One[int](t, f, "SELECT current_setting('max_connections')::int - count(*)::int FROM pg_stat_activity")
	crowd := min(writers, limits-20)
	f.Run(t, fmt.Sprintf("INSERT INTO users SELECT g, NULL FROM generate_series(1, %d) g", crowd))
	db, err := pg.Open(t.Context(), f.URL, pg.Options{AppName: "crowd", MaxConns: int32(crowd), Abroad: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var written, ended sync.WaitGroup
	written.Add(crowd)
	failures := make(chan error, crowd)
	for i := range crowd {
		ended.Go(func() {
			err := db.InTx(t.Context(), func(tx pg.Tx) error {
				_, err := tx.Exec(t.Context(), "SET LOCAL lock_timeout = '30s'")
				if err == nil {
					_, err = tx.Exec(t.Context(), "UPDATE users SET email = 'a' WHERE id = $1", i+1)
				}
				written.Done()
				written.Wait()
				return err
			})
			if err != nil {
				failures <- err
			}
		})
	}
	ended.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	f.wantRecord(t, fmt.Sprintf("crowd %%s %d", crowd))
}
