package ladder_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// waitsForLock is nil once somebody waits for a lock that keeps everybody out.
func waitsForLock(t *testing.T, db *testenv.DB) error {
	t.Helper()
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); n == 0 {
		return errors.New("nobody waits")
	}
	return nil
}

// executioner kills the server process of a connection just before its nth statement that changes anything, commit
// included. To be killed before one that only reads is to be killed after the one before it.
type executioner struct {
	db   *testenv.DB // another connection
	nth  int64
	seen atomic.Int64
	last atomic.Value // the statement it was
}

func (x *executioner) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if changesNothing(data.SQL) || x.seen.Add(1) != x.nth {
		return ctx
	}
	x.last.Store(data.SQL)
	aside := context.WithoutCancel(ctx)
	for there := true; there; {
		if err := x.db.QueryRow(aside, `SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE pid = $1`, conn.PgConn().PID()).Scan(&there); err != nil {
			x.last.Store(err.Error())
			break
		}
	}
	return ctx
}

func changesNothing(sql string) bool {
	sql = strings.ToUpper(strings.TrimSpace(sql))
	return slices.ContainsFunc([]string{"SELECT", "WITH", "BEGIN", "SET TRANSACTION", "ROLLBACK"}, func(word string) bool { return strings.HasPrefix(sql, word) })
}

func (x *executioner) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// killedAt runs f over connections of which one is killed before its nth statement, and says whether that came.
func killedAt(t *testing.T, db *testenv.DB, nth int64, f func(*ladder.Ladder) error) (statement string, err error) {
	t.Helper()
	x := &executioner{db: db, nth: nth}
	own, err := pg.Open(t.Context(), db.URL, pg.Options{Tracer: x})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	err = f(&ladder.Ladder{DB: own})
	statement, _ = x.last.Load().(string)
	return statement, err
}

// customers use columns that have nothing to do with the cutover, and tolerate no error but waiting for a lock.
func customers(t *testing.T, db *testenv.DB) (stop func() (transactions int64)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	own := testenv.Open(t, db.URL+"&options=-clock_timeout%3D20s")
	var done atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			err := own.InTx(ctx, func(tx pg.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE users SET note = 'seen' WHERE id = $1`, n%50+1)
				if err == nil {
					_, err = tx.Exec(ctx, `SELECT id, note FROM users WHERE id = $1`, n%50+1)
				}
				return err
			})
			if err != nil && ctx.Err() == nil {
				t.Errorf("a customer met: %v", err)
			}
			done.Add(1)
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() int64 { cancel(); <-ended; return done.Load() }
}

// TestACutoverKilledBetweenAnyTwoStatements: its server process is killed before each statement in turn, while customers
// go on. The columns are as before or as after, the log says the same, and the same request finishes.
func TestACutoverKilledBetweenAnyTwoStatements(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	stop := customers(t, db)
	before := testenv.Column[string](t, db, columnsSQL, "users")
	var killed []string
	cut := func(l *ladder.Ladder) error { _, err := l.Cutover(t.Context(), r.request()); return err }
	for nth, over := int64(1), false; ; nth++ {
		statement, err := killedAt(t, db, nth, cut)
		if statement == "" {
			if err != nil {
				t.Fatalf("nothing was killed at %d: %v", nth, err)
			}
			break
		}
		killed = append(killed, statement)
		now := testenv.Column[string](t, db, columnsSQL, "users")
		phase := r.state(t).Phase
		if isOver := phase == lifecycle.PhaseCutOver; isOver == slices.Equal(now, before) {
			t.Errorf("killed before %q: the column is %s, and the table has %q", statement, phase, now)
		} else if isOver && !over {
			over, nth = true, 0 // what is left is another, shorter way: that too is killed at each step
		}
		if err == nil && statement != "commit" {
			t.Errorf("killed before %q, and nobody noticed", statement)
		}
	}
	if n := stop(); n == 0 {
		t.Error("no customer came")
	}
	all := strings.Join(killed, "\n")
	for _, want := range []string{"LOCK TABLE", "RENAME COLUMN", "CREATE INDEX CONCURRENTLY", "VALIDATE CONSTRAINT", "SET NOT NULL", "DROP NOT NULL", "INSERT INTO cipherfleet.events", "commit"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing was killed before %s", want)
		}
	}
	want := []string{"email | bytea | not null | how to reach them | SELECT,UPDATE", "email_plaintext | text | null | how to reach them | SELECT,UPDATE", "id | bigint | not null", "note | text | null"}
	if have := testenv.Column[string](t, db, columnsSQL, "users"); !slices.Equal(have, want) {
		t.Errorf("in the end: %q", have)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'cut_over'`); n != 1 {
		t.Errorf("recorded %d times", n)
	}
}

// TestACutoverDoesNotWaitForEver: somebody holds the table for longer than the command has patience. Whoever queues
// behind it waits for less than a second.
func TestACutoverDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	holding(t, db, `SELECT count(*) FROM users`)
	stop := customers(t, db)
	before := testenv.Column[string](t, db, columnsSQL, "users")
	_, err := r.ladder().Cutover(t.Context(), r.request())
	if code, hint := app.Explain(err); code != app.CodeRefused || !strings.Contains(hint, "pg_stat_activity") {
		t.Errorf("exit code %d: %v", code, err)
	}
	if have := testenv.Column[string](t, db, columnsSQL, "users"); !slices.Equal(have, before) || r.state(t).Phase != lifecycle.PhaseBackfilled {
		t.Errorf("something was changed: %q", have)
	}
	if n := stop(); n < 20 {
		t.Errorf("customers came through %d times only", n)
	}
}

// TestALockThatIsLetGoIsGot: the holder ends while the command is still trying.
func TestALockThatIsLetGoIsGot(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	holder := holding(t, db, `SELECT count(*) FROM users`)
	ended := make(chan error, 1)
	go func() { _, err := r.ladder().Cutover(t.Context(), r.request()); ended <- err }()
	seen := 0
	testenv.Eventually(t, time.Minute, func() error { // at least twice: it gave up once in between
		waits := waitsForLock(t, db) == nil
		if waits == (seen%2 == 0) {
			seen++
		}
		if seen < 3 {
			return fmt.Errorf("seen %d changes", seen)
		}
		return nil
	})
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestACutoverThatIsNotFinishedSaysSo: the names are swapped, and what is left waits for a job.
func TestACutoverThatIsNotFinishedSaysSo(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	r.cut(t)
	db.Run(t, `ALTER TABLE users ALTER email DROP NOT NULL; ALTER TABLE users ADD CONSTRAINT cipherfleet_1_present CHECK (email IS NOT NULL) NOT VALID`) // as if killed
	db.Run(t, `INSERT INTO cipherfleet.jobs (relid, spec, state) VALUES ('users'::regclass, '{}', 'running')`)
	_, err := r.ladder().Cutover(t.Context(), r.request())
	if code, hint := app.Explain(err); code != app.CodeWaiting || !strings.Contains(hint, "ask for the same again") {
		t.Errorf("exit code %d, %s: %v", code, hint, err)
	}
	db.Run(t, `UPDATE cipherfleet.jobs SET state = 'done'`)
	r.cut(t)
	if !testenv.One[bool](t, db, `SELECT attnotnull FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'email'`) {
		t.Error("the cells may be NULL")
	}
}

// TestAViewThatComesWhileTheLockIsWaitedForIsSeen: it is committed after the gates, and before the lock.
func TestAViewThatComesWhileTheLockIsWaitedForIsSeen(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	holder := holding(t, db, `LOCK TABLE users IN ACCESS SHARE MODE`)
	ended := make(chan error, 1)
	go func() { _, err := r.ladder().Cutover(t.Context(), r.request()); ended <- err }()
	testenv.Eventually(t, time.Minute, func() error { return waitsForLock(t, db) })
	if _, err := holder.Exec(t.Context(), `CREATE VIEW addresses AS SELECT email FROM users`); err != nil {
		t.Fatal(err)
	}
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := <-ended
	if code, _ := app.Explain(err); code != app.CodeRefused || !strings.Contains(err.Error(), "view public.addresses") {
		t.Errorf("exit code %d: %v", code, err)
	}
	if r.state(t).Phase != lifecycle.PhaseBackfilled {
		t.Error("it was cut over")
	}
}
