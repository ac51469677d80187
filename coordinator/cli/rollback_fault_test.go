package cli

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// behindUsers are people who are cut over, many of whose cells were written since, and whose job does not end by itself.
func behindUsers(t *testing.T) (*testenv.DB, *shell, *reader) {
	t.Helper()
	db, s, r := encryptedUsers(t, 4000, "")
	for id := int64(1); id <= 4000; id += 2 {
		word := fmt.Sprint("since ", id)
		r.wrote[id] = &word
		if _, err := db.Exec(t.Context(), `UPDATE users SET email = $2 WHERE id = $1`, id, r.cell(id, word)); err != nil {
			t.Fatal(err)
		}
	}
	braked(t, db)
	return db, s, r
}

// braked lets one chunk of a job in reverse through, and holds those behind it until its trigger is dropped: each until its
// time is over.
func braked(t *testing.T, db *testenv.DB) {
	t.Helper()
	db.Run(t, `CREATE FUNCTION public.brake() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
 PERFORM pg_advisory_xact_lock(4711);
 IF EXISTS (SELECT FROM cipherfleet.events WHERE event = ''backfill_checkpoint'' AND phase = ''cut-over'' AND rows_processed > 0) THEN PERFORM pg_sleep(60); END IF;
 RETURN NULL; END';
CREATE TRIGGER brake AFTER UPDATE ON users FOR EACH STATEMENT EXECUTE FUNCTION public.brake()`)
}

// cellsOpened waits until a job in reverse has written something.
func cellsOpened(t *testing.T, db *testenv.DB) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() error {
		if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND phase = 'cut-over' AND rows_processed > 0`); n == 0 {
			return errors.New("no cell was opened")
		}
		return nil
	})
}

// TestARollbackWhoseProcessIsKilled: kill -9 in the middle of its job; the same command goes on where it stood.
func TestARollbackWhoseProcessIsKilled(t *testing.T) {
	t.Parallel()
	db, s, r := behindUsers(t)
	p := s.start("rollback", "users.email", "--user-triggers", "fire")
	cellsOpened(t, db)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	if phase := phaseOf(t, db); phase != "cut-over" {
		t.Fatalf("killed, the column is %s", phase)
	}
	db.Run(t, `DROP TRIGGER brake ON users`)
	s.must("rollback", "users.email")
	r.wantRead("email")
	wantNoResidue(t, db)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs WHERE spec->'columns' @> '[{"reverse": true}]'`); n != 1 {
		t.Errorf("there were %d jobs in reverse: the second command did not go on", n)
	}
}

// TestASignalPausesARollback: the chunks in hand commit, the names stay; the same command resumes.
func TestASignalPausesARollback(t *testing.T) {
	t.Parallel()
	db, s, r := behindUsers(t)
	p := s.start("rollback", "users.email", "--user-triggers", "fire")
	cellsOpened(t, db)
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.end(t).refusedWith(t, app.CodePaused, "still cut over", "the same command resumes")
	db.Run(t, `DROP TRIGGER brake ON users`)
	s.must("rollback", "users.email")
	r.wantRead("email")
}

// TestARollbackInAFleet: whoever asks for it has no key, so all cells are opened by the fleet.
func TestARollbackInAFleet(t *testing.T) {
	t.Parallel()
	db, s, r := encryptedUsers(t, 300, "")
	r.writeEverywhere(10)
	s.inNATS(testenv.NATS(t)).serve("--workers", "1")
	answers(t, s)
	asker := newShell(t, db.URL)
	asker.with("NATS_URL", s.env["NATS_URL"]).with("CIPHERFLEET_NATS_TOKEN_FILE", s.env["CIPHERFLEET_NATS_TOKEN_FILE"])
	o := asker.must("rollback", "users.email", "--json")
	if !strings.Contains(o.out, `"jobs":1,"opened":0`) {
		t.Errorf("it says %s", o.out)
	}
	r.wantRead("email")
	wantNoResidue(t, db)
}

// TestOnlyTheOwnerRollsBack: exit code 7, and nothing is changed.
func TestOnlyTheOwnerRollsBack(t *testing.T) {
	t.Parallel()
	db, s, _ := encryptedUsers(t, 20, "")
	_, at := role(t, db, "guest", "GRANT SELECT, UPDATE ON users TO %s", "GRANT USAGE ON SCHEMA cipherfleet TO %s", "GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %s")
	unchanged(t, db, func() {
		s.with("DATABASE_URL", at).run("rollback", "users.email").refusedWith(t, app.CodeDenied, "may not alter", "as the owner")
	})
}

// TestAJobInReverseIsRefused where it would make no sense, by the coordinator itself.
func TestAJobInReverseIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	nats := testenv.NATS(t)
	s.inNATS(nats).serve()
	answers(t, s)
	queue := must(bus.Connect(t.Context(), bus.Config{URL: nats.URL, TokenFile: nats.TokenFile, Name: "asker"}))
	defer queue.Close()
	request := messages.StartRequest{V: messages.Version, RequestID: "r-1", Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}}, Direction: messages.DirectionReverse}
	var problem *messages.Problem
	if _, err := queue.Start(t.Context(), request); !errors.As(err, &problem) || problem.Code != messages.CodeRefused || !strings.Contains(problem.Message, "not cut-over") {
		t.Errorf("a column that is backfilled: %v", err)
	}
	request.RequestID, request.Key = "r-2", []string{"id"}
	if _, err := queue.Start(t.Context(), request); !errors.As(err, &problem) || problem.Code != messages.CodeInvalid || problem.Field != "key" {
		t.Errorf("a key: %v", err)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs`); n != 1 {
		t.Errorf("there are %d jobs", n)
	}
}
