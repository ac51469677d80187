package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// victimSQL is a table in parts whose every change takes its time, so that who asks for a part meanwhile has it as soon as
// the change is committed. Whoever waits for a lock looks for a deadlock soon.
const victimSQL = `CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, tenant text NOT NULL, kind text NOT NULL, note text) PARTITION BY HASH (id);
CREATE TABLE users_0 PARTITION OF users FOR VALUES WITH (MODULUS 3, REMAINDER 0); CREATE TABLE users_1 PARTITION OF users FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE users_2 PARTITION OF users FOR VALUES WITH (MODULUS 3, REMAINDER 2); INSERT INTO users SELECT g, 'user' || g, CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END, 'k' FROM generate_series(1, 30) g;
CREATE FUNCTION linger() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  IF coalesce(current_setting('test.lingered', true), '') = '' AND EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'public.users_1'::regclass AND mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock')) THEN
    PERFORM set_config('test.lingered', 'yes', true), pg_sleep(0.3);
  END IF; END $$;
CREATE EVENT TRIGGER linger ON ddl_command_end EXECUTE FUNCTION linger();
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''300ms''', current_database()); END $$`

// TestNoVerbMakesAnApplicationADeadlocksVictim, which writes partitions directly, and the last one first: each change of the
// table waits for one of them that it has, while it asks for another.
func TestNoVerbMakesAnApplicationADeadlocksVictim(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, victimSQL)
	s := newShell(t, db.URL).withKey()
	s.must("install")
	w := writer{t, testenv.Open(t, db.URL)}
	for _, verb := range []struct {
		command string
		changes int // of the table, at least
	}{
		{"advance users.email --to dual-writing --strict", 3},
		{"rollback users.email --drop-target", 1},
		{"backfill --table users --column email --prepare --strict", 3},
		{"ALTER TABLE users ALTER email DROP NOT NULL", 0},
		{"scheme new users.email --nulls seal", 0},
		{"rotate users.email", 1},
		{"scheme new users.email --nulls keep --binding columns --columns kind --tenant tenant", 1},
		{"rotate users.email", 1},
		{"scheme retire users.email 1", 2},
		{"scheme retire users.email 2", 2},
		{"ALTER TABLE users ALTER email SET NOT NULL", 0},
		{"verify --table users", 0},
		{"cutover users.email --soak 0", 2},
		{"rollback users.email", 2},
		{"verify --table users", 0},
		{"cutover users.email --soak 0", 2},
		{"drop users.email --apply", 2},
		{"decrypt users.email --reason test", 3},
		{"scheme shred users.email --tenant b --reason test", 1},
	} {
		if strings.HasPrefix(verb.command, "ALTER") {
			db.Run(t, verb.command)
			continue
		}
		ended := make(chan outcome, 1)
		go func() { ended <- s.runUntil(t.Context(), strings.Fields(verb.command)...) }()
		rounds := w.harass(ended)
		o := <-ended
		if o.code != 0 || rounds < verb.changes {
			t.Errorf("%s: %d changes were met; exit code %d\n%s%s", verb.command, rounds, o.code, o.out, o.err)
		}
	}
}

// writer is an application that writes partitions directly.
type writer struct {
	t  *testing.T
	db *testenv.DB
}

// harass has each change of the table wait for a transaction of the application, until the verb has ended. It returns how
// many there were.
func (w writer) harass(ended chan outcome) (changes int) {
	const (
		waits     = ` FROM pg_locks l WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND relation = 'users_1'::regclass`
		builtSQL  = `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND l.locktype = 'virtualxid' AND a.datname = current_database())`
		waitedSQL = `SELECT EXISTS (SELECT` + waits + `) OR (` + builtSQL + `)`
		lookedSQL = `SELECT coalesce(min(waitstart) <= clock_timestamp() - interval '350ms', true)` + waits
		heldSQL   = `SELECT EXISTS (SELECT FROM pg_locks WHERE granted AND relation = 'users_1'::regclass AND mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock') AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`
	)
	ctx := context.WithoutCancel(w.t.Context())
	for len(ended) == 0 {
		met := false
		err := w.db.InTx(ctx, func(tx pg.Tx) error {
			if _, err := tx.Exec(ctx, `LOCK TABLE users_1 IN ROW EXCLUSIVE MODE`); err != nil {
				return err
			}
			if !w.until(waitedSQL, ended) || testenv.One[bool](w.t, w.db, builtSQL) {
				return nil // an index that is built beside others waits for their ends
			}
			met = true
			changes++
			w.until(lookedSQL, ended) // for a deadlock, and found none: the next one who looks is its victim
			_, err := tx.Exec(ctx, `UPDATE users_0 SET note = 'x'`)
			return err
		})
		if err != nil {
			w.t.Errorf("the application's write: %v", err)
		}
		if met {
			w.until(heldSQL, ended)
		}
	}
	return changes
}

// until waits for something, or the verb's end; then it is false.
func (w writer) until(sql string, ended chan outcome) (is bool) {
	testenv.Eventually(w.t, 2*time.Minute, func() error {
		if is = testenv.One[bool](w.t, w.db, sql); is || len(ended) > 0 {
			return nil
		}
		return errors.New("the verb neither asks nor ends")
	})
	return is
}
