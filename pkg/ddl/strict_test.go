package ddl_test

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// strict is a table with one covered row, and one that the job has not reached.
func strict(t *testing.T, f fixture) fixture {
	t.Helper()
	f.write(t, ddl.WriterClient, insertCovered, cellOf(7))
	f.Run(t, "INSERT INTO users VALUES (2, 'not reached')")
	f.do(t, f.Strict().Do)
	return f
}

func (f fixture) tries(t *testing.T, settings, sql string, args ...any) error {
	t.Helper()
	return f.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "SELECT "+settings); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
}

func TestStrictRefusesAWriteThatMissesTheTarget(t *testing.T) {
	t.Parallel()
	f := strict(t, users(t, "text"))
	const nobody, client = "1", "set_config('cipherfleet.writer', 'client', true)"
	for _, w := range []struct{ settings, sql string }{
		{nobody, "UPDATE users SET email = 'b' WHERE id = 1"},
		{nobody, "UPDATE users SET email = 'b' WHERE id = 2"},
		{nobody, "UPDATE users SET id = 3 WHERE id = 1"},
		{nobody, "INSERT INTO users VALUES (4, 'd')"},
		{nobody, "INSERT INTO users VALUES (4, 'd', 'n', '" + asHex(cellOf(7)) + "')"},
		{nobody, "INSERT INTO users VALUES (1, 'd') ON CONFLICT (id) DO UPDATE SET email = excluded.email"},
		{client, "UPDATE users SET email = 'b' WHERE id = 1"},
		{client, "INSERT INTO users VALUES (4, 'd')"},
	} {
		err := f.tries(t, w.settings, w.sql)
		var refused *pg.Error
		if !errors.As(err, &refused) || refused.Code != "23514" || refused.Constraint != ddl.StrictName(7) || refused.Table != "public.users" {
			t.Errorf("%s: %v", w.sql, err)
		}
	}
	for _, w := range []struct{ settings, sql string }{
		{nobody, "UPDATE users SET note = 'm'"},
		{nobody, "UPDATE users SET email = email"},
		{nobody, "UPDATE users SET email = NULL WHERE id = 1"},
		{nobody, "INSERT INTO users VALUES (5, NULL)"},
		{client, "UPDATE users SET email = 'c', cell = '" + asHex(cellOf(7)) + "' WHERE id = 1"},
		{client, "INSERT INTO users VALUES (6, 'f', 'n', '" + asHex(cellOf(7)) + "')"},
		{"set_config('cipherfleet.writer', 'fleet', true)", "UPDATE users SET cell = '" + asHex(cellOf(7)) + "' WHERE id = 2"},
		{"set_config('session_replication_role', 'replica', true)", "UPDATE users SET email = 'replicated' WHERE id = 2"},
		{nobody, "DELETE FROM users"},
	} {
		if err := f.tries(t, w.settings, w.sql); err != nil {
			t.Errorf("%s: %v", w.sql, err)
		}
	}
}

// Where NULL is sealed, a NULL misses its cell like a value.
func TestStrictRefusesANullThatMissesItsCell(t *testing.T) {
	t.Parallel()
	f := strict(t, users(t, "text"))
	f.Nulls = true
	f.do(t, append(f.Capture().Do, f.Strict().Do...))
	const nobody, client = "1", "set_config('cipherfleet.writer', 'client', true)"
	for _, sql := range []string{"UPDATE users SET email = NULL WHERE id = 1", "UPDATE users SET email = NULL WHERE id = 2", "INSERT INTO users VALUES (5, NULL)", "INSERT INTO users (id) VALUES (5)",
		"UPDATE users SET email = NULL, cell = NULL WHERE id = 1"} {
		for _, settings := range []string{nobody, client} {
			if err := f.tries(t, settings, sql); pg.Code(err) != "23514" {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	for _, w := range []struct{ settings, sql string }{
		{nobody, "UPDATE users SET note = 'm'"},
		{client, "UPDATE users SET email = NULL, cell = '" + asHex(append(cellOf(7), 1)) + "' WHERE id = 1"},
		{client, "INSERT INTO users VALUES (6, NULL, 'n', '" + asHex(cellOf(7)) + "')"},
		{"set_config('session_replication_role', 'replica', true)", "UPDATE users SET email = NULL WHERE id = 2"},
	} {
		if err := f.tries(t, w.settings, w.sql); err != nil {
			t.Errorf("%s: %v", w.sql, err)
		}
	}
}

// A trigger of the user's makes the fleet's cell stale: that row waits for the next sweep, and the chunk goes through.
func TestStrictLetsTheFleetGoOn(t *testing.T) {
	t.Parallel()
	f := strict(t, users(t, "text", lowering("lower_email")))
	f.Run(t, "ALTER TABLE users DISABLE TRIGGER USER; UPDATE users SET email = 'UPPER', cell = NULL; ALTER TABLE users ENABLE TRIGGER lower_email")
	f.do(t, append(f.Capture().Do, f.Strict().Do...))
	f.Run(t, `ALTER TABLE users ENABLE TRIGGER "~cipherfleet_7_strict_insert", ENABLE TRIGGER "~cipherfleet_7_strict_update"`)
	f.write(t, ddl.WriterFleet, "UPDATE users SET cell = $1 WHERE id = 1", cellOf(7))
	if email := testenv.One[string](t, f, "SELECT email FROM users WHERE id = 1 AND cell IS NULL"); email != "upper" {
		t.Errorf("the row is %q", email)
	}
}

func TestStrictWorksInEveryPartition(t *testing.T) {
	t.Parallel()
	f := partitioned(t)
	f.do(t, f.Strict().Do)
	for _, sql := range []string{"INSERT INTO users VALUES (1, 1, 'a')", "INSERT INTO users_2 (region, id, email) VALUES (2, 1, 'a')"} {
		if _, err := f.Exec(t.Context(), sql); pg.Code(err) != "23514" {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// Whoever takes capture away, as a cutover does, leaves nothing that refuses.
func TestStrictGoesWithItsCapture(t *testing.T) {
	t.Parallel()
	f := strict(t, users(t, "text"))
	f.do(t, f.Capture().Undo)
	f.Run(t, "INSERT INTO users VALUES (9, 'i')")
	if left := testenv.One[int](t, f, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'cipherfleet'::regnamespace AND proname LIKE '%\\_7'"); left != 0 {
		t.Errorf("%d functions are left", left)
	}
}
