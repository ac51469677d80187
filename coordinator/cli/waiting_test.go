package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// sweptAgain leaves the job that is done sweeping once more, as a coordinator does by itself, and returns it.
func sweptAgain(t *testing.T, db *testenv.DB) string {
	t.Helper()
	db.Run(t, `UPDATE users SET email = 'missed@example.org' WHERE id = 7`)
	jobs := &work.Jobs{DB: db.DB, Log: &lifecycle.Log{}}
	id, table := testenv.One[string](t, db, `SELECT id::text FROM cipherfleet.jobs WHERE state = 'done'`), testenv.One[uint32](t, db, `SELECT 'users'::regclass::oid`)
	return must(jobs.CatchUp(t.Context(), id, []uint32{table}, nil)).ID
}

// startsOver are the commands that start another job over a table whose column email is swept.
func startsOver(t *testing.T, s *shell) map[string][]string {
	t.Helper()
	s.must("scheme", "new", "users.email")
	s.must("index", "new", "users.email", "email_bidx")
	return map[string][]string{
		"rotate":   {"rotate", "users.email"},
		"backfill": {"backfill", "--table", "users", "--column", "note", "--prepare"},
		"index":    {"index", "build", "users.email", "email_bidx"},
	}
}

// What the fleet began by itself is no reason for a refusal: it is waited for, in the process that does everything itself.
func TestACommandWaitsForWhatTheFleetBeganByItself(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"rotate", "backfill"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 100)
			s := newShell(t, db.URL).withKey()
			s.must(backfillUsers()...)
			command := startsOver(t, s)[name]
			job := sweptAgain(t, db)
			if o := s.must(command...); strings.Count(o.err, "waiting for job "+job) != 1 {
				t.Errorf("it did not say what it waits for: %s", o.err)
			}
			s.must("verify", "--table", "users", "--column", "email")
		})
	}
}

// awaits starts a command that is to wait for the job.
func awaits(t *testing.T, s *shell, job string, command ...string) *process {
	t.Helper()
	p := s.start(command...)
	testenv.Eventually(t, time.Minute, func() error {
		if !strings.Contains(p.err.String(), "waiting for job "+job) {
			return errors.New("it does not wait: " + p.err.String())
		}
		return nil
	})
	return p
}

// In a fleet, too; and a job that somebody has paused meanwhile ends nothing by itself any more.
func TestACommandOfAFleetWaitsForWhatThatBeganByItself(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	commands := startsOver(t, s)
	nats := testenv.NATS(t)
	s.inNATS(nats).with("CIPHERFLEET_RECONCILE", "200ms").serve()
	leads(t, db)
	job := sweptAgain(t, db)
	first := awaits(t, s, job, commands["rotate"]...)
	s.must("job", "pause", job)
	if o := first.end(t); o.code != app.CodeRefused || !strings.Contains(o.err, "another job over the same table has not ended") {
		t.Errorf("it was paused: exit code %d: %s", o.code, o.err)
	}
	for name, want := range map[string][2]string{"rotate": {"has not ended", "cancel it"}, "backfill": {"has not ended", "cancel it"}, "index": {"is backfilling", "cipherfleet backfill"}} {
		unchanged(t, db, func() { s.run(commands[name]...).refusedWith(t, app.CodeRefused, want[0], want[1]) })
	}
	s.must("job", "resume", job)
	second := awaits(t, s, job, commands["index"]...)
	hand(t, db, s, nats, "a worker")
	if o := second.end(t); o.code != app.CodeDone || strings.Count(o.err, "waiting for job") != 1 {
		t.Errorf("exit code %d: %s%s", o.code, o.out, o.err)
	}
	s.must(commands["rotate"]...)
}

// Tokens that rows have lost are filled by a job of the fleet's own, which is in the way of a column's transitions, too.
func TestARollbackWaitsForTokensThatTheFleetFillsByItself(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.must("index", "new", "users.email", "email_bidx")
	s.must("index", "build", "users.email", "email_bidx")
	s.must("cutover", "users.email", "--soak", "0", "--reason", "a test")
	nats := testenv.NATS(t)
	s.inNATS(nats).with("CIPHERFLEET_RECONCILE", "200ms").serve()
	leads(t, db)
	db.Run(t, `UPDATE users SET email_bidx = NULL WHERE id = 1`)
	job := ""
	testenv.Eventually(t, time.Minute, func() error {
		fills := testenv.Column[string](t, db, `SELECT id::text FROM cipherfleet.jobs WHERE state = 'running'`)
		if len(fills) == 0 {
			return errors.New("nobody fills the token")
		}
		job = fills[0]
		return nil
	})
	p := awaits(t, s, job, "rollback", "users.email")
	hand(t, db, s, nats, "a worker")
	if o := p.end(t); o.code != app.CodeDone || phaseOf(t, db) != "backfilled" {
		t.Errorf("exit code %d: %s%s", o.code, o.out, o.err)
	}
}

// A drop takes as long as reading the table: what the fleet began by itself meanwhile is waited for, too.
func TestADropWaitsForWhatTheFleetBeganInItsMiddle(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.must("verify", "--table", "users")
	s.must("cutover", "users.email", "--soak", "0")
	s.inNATS(testenv.NATS(t))
	holder := must(db.Begin(t.Context()))
	defer holder.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it is over
	must(holder.Exec(t.Context(), `LOCK TABLE users IN ROW EXCLUSIVE MODE`))
	p := s.start("drop", "users.email", "--apply")
	testenv.Eventually(t, time.Minute, func() error {
		if testenv.One[int](t, db, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass`) == 0 {
			return errors.New("it does not wait for the table")
		}
		return nil
	})
	job := testenv.One[string](t, db, `INSERT INTO cipherfleet.jobs (relid, spec, state, total) VALUES ('users'::regclass, '{"unasked": true}', 'sweeping', 1) RETURNING id::text`)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		if !strings.Contains(p.err.String(), "waiting for job "+job) {
			return errors.New("it does not wait: " + p.err.String())
		}
		return nil
	})
	db.Run(t, `UPDATE cipherfleet.jobs SET state = 'done'`)
	if o := p.end(t); o.code != app.CodeDone || phaseOf(t, db) != "dropped" {
		t.Errorf("exit code %d: %s%s", o.code, o.out, o.err)
	}
}
