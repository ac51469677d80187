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

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// rollback does what the command does; fleet stands for the job, and brings every plaintext back that is missing.
func (r ripe) rollback(ctx context.Context, l *ladder.Ladder, change ...func(*ladder.RollbackRequest)) (ladder.Rollback, error) {
	request := ladder.RollbackRequest{Name: r.name, Reason: "a test", Reverse: r.fleet}
	for _, f := range change {
		f(&request)
	}
	plan, err := l.PlanRollback(ctx, request)
	if err != nil {
		return ladder.Rollback{}, err
	}
	return l.Rollback(ctx, plan, request)
}

func (r ripe) fleet(ctx context.Context) error {
	return r.InTx(ctx, func(tx pg.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE users SET email_plaintext = 'opened ' || id WHERE email IS NOT NULL AND email_plaintext IS NULL`)
		return err
	})
}

// everything is the table's columns and triggers.
func everything(t *testing.T, db *testenv.DB) []string {
	t.Helper()
	return append(testenv.Column[string](t, db, columnsSQL, "users"),
		testenv.Column[string](t, db, `SELECT concat_ws(' ', tgname, tgenabled) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal ORDER BY 1`)...)
}

// cutOver is a rich table whose column is cut over, and what the table was before.
func cutOver(t *testing.T, db *testenv.DB) (r ripe, before []string) {
	t.Helper()
	db.Run(t, richTable)
	r = ripen(t, db, inPublic("users", "email"), "id")
	before = everything(t, db)
	r.cut(t)
	return r, before
}

// write is a cell that an application writes.
func (r ripe) write(t *testing.T, id int) {
	t.Helper()
	if _, err := r.Exec(t.Context(), `UPDATE users SET email = $2 WHERE id = $1`, id, append(r.cell(), byte(id))); err != nil {
		t.Error(err)
	}
}

// TestARollbackKilledBetweenAnyTwoStatements: as with a cutover. Before each attempt an application writes a cell.
func TestARollbackKilledBetweenAnyTwoStatements(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r, before := cutOver(t, db)
	after := everything(t, db)
	stop := customers(t, db)
	var killed []string
	back := func(l *ladder.Ladder) error { _, err := r.rollback(t.Context(), l); return err }
	over := false
	for nth := int64(1); ; nth++ {
		if !over {
			r.write(t, int(nth%50)+1)
		}
		statement, err := killedAt(t, db, nth, back)
		if statement == "" {
			if err != nil {
				t.Fatalf("nothing was killed at %d: %v", nth, err)
			}
			break
		}
		killed = append(killed, statement)
		isOver := r.state(t).Phase == lifecycle.PhaseBackfilled
		if isOver == slices.Equal(everything(t, db), after) {
			t.Errorf("killed before %q: the column is %s, and the table has %q", statement, r.state(t).Phase, everything(t, db))
		} else if isOver && !over {
			over, nth = true, 0 // what is left is another, shorter way
		}
		if err == nil && statement != "commit" {
			t.Errorf("killed before %q, and nobody noticed", statement)
		}
	}
	if n := stop(); n == 0 {
		t.Error("no customer came")
	}
	all := strings.Join(killed, "\n")
	for _, want := range []string{"CREATE INDEX CONCURRENTLY", "LOCK TABLE", "RENAME COLUMN", "DROP TRIGGER", "CREATE OR REPLACE TRIGGER", "DROP INDEX",
		"VALIDATE CONSTRAINT", "SET NOT NULL", "INSERT INTO cipherfleet.events", "commit"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing was killed before %s", want)
		}
	}
	if have := everything(t, db); !slices.Equal(have, before) {
		t.Errorf("in the end: %q\nwant %q", have, before)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'rolled_back'`); n != 1 {
		t.Errorf("recorded %d times", n)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE email IS NULL OR email_encrypted IS NULL`); n != 0 {
		t.Errorf("%d rows lost something", n)
	}
}

func TestARollbackOfWhatWasPreparedKilledBetweenAnyTwoStatements(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	before := everything(t, db)
	back := func(l *ladder.Ladder) error { _, err := r.rollback(t.Context(), l); return err }
	for nth := int64(1); ; nth++ {
		statement, err := killedAt(t, db, nth, back)
		if statement == "" {
			if err != nil {
				t.Fatalf("nothing was killed at %d: %v", nth, err)
			}
			break
		}
		if (r.state(t).Phase == lifecycle.PhaseBackfilled) != slices.Equal(everything(t, db), before) {
			t.Errorf("killed before %q: the column is %s, and the table has %q", statement, r.state(t).Phase, everything(t, db))
		}
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass`); n != 0 || r.state(t).Phase != lifecycle.PhaseSchemaAdded {
		t.Errorf("in the end: %d triggers, %s", n, r.state(t).Phase)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE email_encrypted IS NULL`); n != 0 {
		t.Errorf("%d rows lost their cells", n)
	}
}

func TestARollbackDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r, _ := cutOver(t, db)
	holding(t, db, `LOCK TABLE users IN ACCESS SHARE MODE`)
	after := everything(t, db)
	stop := customers(t, db)
	_, err := r.rollback(t.Context(), r.ladder())
	if code, hint := app.Explain(err); code != app.CodeRefused || !strings.Contains(hint, "pg_stat_activity") {
		t.Errorf("exit code %d: %v", code, err)
	}
	if have := everything(t, db); !slices.Equal(have, after) || r.state(t).Phase != lifecycle.PhaseCutOver {
		t.Errorf("something was changed: %q", have)
	}
	if n := stop(); n < 20 {
		t.Errorf("customers came through %d times only", n)
	}
}

// TestARowWrittenBeforeTheLockSendsARollbackBack: without a key a rollback opens nothing itself.
func TestARowWrittenBeforeTheLockSendsARollbackBack(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r, before := cutOver(t, db)
	r.write(t, 1)
	late := 3
	result, err := r.rollback(t.Context(), r.ladder(), func(request *ladder.RollbackRequest) {
		request.Reverse = func(ctx context.Context) error {
			if err := r.fleet(ctx); err != nil {
				return err
			}
			if late--; late > 0 {
				r.write(t, 10+late)
			}
			return nil
		}
	})
	if err != nil || result.Jobs != 3 || result.Opened != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	if have := everything(t, db); !slices.Equal(have, before) {
		t.Errorf("have %q\nwant %q", have, before)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE email LIKE 'opened %'`); n != 3 {
		t.Errorf("%d cells were opened, want 3", n)
	}
}

func TestARollbackThatIsNeverThroughGivesUp(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r, _ := cutOver(t, db)
	after := everything(t, db)
	r.write(t, 1)
	_, err := r.rollback(t.Context(), r.ladder(), func(request *ladder.RollbackRequest) {
		request.Reverse = func(context.Context) error { r.write(t, 2); return nil }
	})
	if code, _ := app.Explain(err); code != app.CodeWaiting || !slices.Equal(everything(t, db), after) {
		t.Errorf("exit code %d: %v", code, err)
	}
}

// TestARollbackUnderALockThatIsLetGo: the holder ends while the command is trying; meanwhile a cell was written.
func TestARollbackUnderALockThatIsLetGo(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r, before := cutOver(t, db)
	holder := holding(t, db, `UPDATE users SET email = $1 WHERE id = 5`, append(r.cell(), 5))
	var jobs atomic.Int64
	ended := make(chan error, 1)
	go func() {
		_, err := r.rollback(t.Context(), r.ladder(), func(request *ladder.RollbackRequest) {
			request.Reverse = func(ctx context.Context) error { jobs.Add(1); return r.fleet(ctx) }
		})
		ended <- err
	}()
	testenv.Eventually(t, time.Minute, func() error { // it waits to build its index, or for the lock
		if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`); n == 0 {
			return errors.New("nobody waits")
		}
		return nil
	})
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || jobs.Load() != 1 {
		t.Errorf("%d jobs, %v", jobs.Load(), err)
	}
	if have := everything(t, db); !slices.Equal(have, before) {
		t.Errorf("have %q\nwant %q", have, before)
	}
}

// TestARollbackGoesOnAfterADeadlock: its index waits for a transaction that then asks for what the build has, and Postgres
// ends the build. The transaction of an application's must not be who pays, so it is told to look for deadlocks later.
func TestARollbackGoesOnAfterADeadlock(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r, before := cutOver(t, db)
	db.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''3s''', current_database()); END $$`)
	r.DB = testenv.Open(t, db.URL)
	holder := holding(t, db, `LOCK TABLE users IN ROW EXCLUSIVE MODE`)
	if _, err := holder.Exec(t.Context(), `SET LOCAL deadlock_timeout = '10min'`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := r.rollback(t.Context(), r.ladder())
		ended <- err
	}()
	testenv.Eventually(t, time.Minute, func() error {
		if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'virtualxid'`); n == 0 {
			return errors.New("no index waits for the transaction")
		}
		return nil
	})
	if _, err := holder.Exec(t.Context(), `LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE`); err != nil { // for as long as the build has not been ended
		t.Fatal(err)
	}
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if have := everything(t, db); !slices.Equal(have, before) {
		t.Errorf("have %q\nwant %q", have, before)
	}
}

// A drop that was begun left a constraint that would refuse every write after a rollback.
func TestARollbackTakesTheConstraintOfADropAway(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r, before := cutOver(t, db)
	c := r.Column
	c.Source, c.Target = "email_plaintext", "email"
	inOne(t, db, func(tx pg.Tx) error { do(t, tx, c.Coverage().Do); return nil })
	if _, err := r.rollback(t.Context(), r.ladder()); err != nil {
		t.Fatal(err)
	}
	if have := everything(t, db); !slices.Equal(have, before) {
		t.Errorf("have %q\nwant %q", have, before)
	}
	db.Run(t, `INSERT INTO users (id, email) VALUES (100, 'new')`)
}

func TestARollbackWaitsForNoJob(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	db.Run(t, fmt.Sprintf(`INSERT INTO cipherfleet.jobs (relid, spec, state) VALUES ('users'::regclass, '{"columns": [{"id": %d}], "key": ["id"]}', 'running')`, r.ID))
	before := everything(t, db)
	_, err := r.rollback(t.Context(), r.ladder())
	if code, hint := app.Explain(err); code != app.CodeRefused || !strings.Contains(hint, "cancel it") || !slices.Equal(everything(t, db), before) {
		t.Errorf("exit code %d, hint %q: %v", code, hint, err)
	}
}
