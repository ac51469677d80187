package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

// anotherScheme gives the only column a scheme that can be read, like its last but for what alter says.
func anotherScheme(t *testing.T, db *testenv.DB, s *shell, alter func(*cell.Scheme)) cell.Scheme {
	t.Helper()
	kek := must(kms.Open(t.Context(), "file:"+s.path("cipherfleet.kek.json"), ""))
	all := must(lifecycle.Schemes(t.Context(), db, testenv.One[uint32](t, db, `SELECT id FROM cipherfleet.columns`)))
	wanted := all[len(all)-1].Definition
	wanted.Number, wanted.KeyID = 0, 0
	if alter != nil {
		alter(&wanted.Scheme)
	}
	return must(lifecycle.Registrar{DB: db.DB, KEK: kek}.NewScheme(t.Context(), wanted))
}

// activate has the only column sealed under a scheme from now on.
func activate(t *testing.T, db *testenv.DB, s *shell, number uint16) {
	t.Helper()
	kek := must(kms.Open(t.Context(), "file:"+s.path("cipherfleet.kek.json"), ""))
	if err := (lifecycle.Registrar{DB: db.DB, KEK: kek}).ActivateScheme(t.Context(), testenv.One[uint32](t, db, `SELECT id FROM cipherfleet.columns`), number); err != nil {
		t.Fatal(err)
	}
}

// schemes are how many cells of the only column are of each scheme, counted.
func schemes(s *shell) map[int]int64 {
	s.t.Helper()
	found := map[int]int64{}
	for _, of := range s.column("--exact").Schemes {
		found[of.Number] = of.Rows
	}
	return found
}

func TestEveryCellIsSealedAnew(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 300)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	who := newResident(t, db)
	second := anotherScheme(t, db, s, func(c *cell.Scheme) { c.RowBound, c.Padding = false, 64 })
	unchanged(t, db, func() {
		o := s.must("rotate", "users.email", "--dry-run", "--json")
		if r := parsed[rotation](t, o.out); r.Scheme != second.Number || r.Job != nil || !r.Exact || !slices.Equal(r.Schemes, []status.SchemeRows{{Number: 1, Rows: 270}}) {
			t.Errorf("would be done: %+v", r)
		}
		for _, want := range []string{"rotate public.users.email (backfilled) to scheme 2, which is readable", "270 of scheme 1", "nothing was changed"} {
			if !strings.Contains(o.err, want) {
				t.Errorf("%q is not in\n%s", want, o.err)
			}
		}
	})
	o := s.must("rotate", "users.email", "--json")
	if r := parsed[rotation](t, o.out); r.Phase != lifecycle.PhaseBackfilled || r.Job == nil || r.Job.Rows != 270 || r.Job.Scheme != 2 || !slices.Equal(r.Schemes, []status.SchemeRows{{Number: 2, Rows: 270}}) {
		t.Errorf("done: %+v", r)
	}
	who.knows(s.path("cipherfleet.kek.json"))
	who.remembers("email", "email_encrypted")
	s.must("verify", "--table", "users")
	if o := s.must("rotate", "users.email", "--to", "2"); !strings.Contains(o.out, "0 rows") {
		t.Errorf("again: %s", o.out)
	}
	db.Run(t, `UPDATE users SET email = 'missed@example.org' WHERE id = 7`)
	s.must(backfillUsers()...) // seals under the scheme of now
	if got := schemes(s); len(got) != 1 || got[2] != 270 {
		t.Errorf("after another backfill cells are of %v", got)
	}
	if n := testenv.One[int](t, db, `SELECT number FROM cipherfleet.schemes WHERE state = 'active'`); n != 2 {
		t.Errorf("scheme %d is active", n)
	}
	if phase := phaseOf(t, db); phase != "backfilled" {
		t.Errorf("the column is %s", phase)
	}
}

// After a cutover the plaintext stays as it was; after the drop there is none, and both the status and the next rotation
// still know what is left.
func TestARotationAfterTheCutoverAndAfterTheDrop(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 200)
	who := newResident(t, db)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	cutByHand(t, db, pg.Table{Schema: "public", Name: "users"}, "email", "id")
	anotherScheme(t, db, s, nil)
	s.must("rotate", "users.email")
	who.knows(s.path("cipherfleet.kek.json"))
	who.remembers("email_plaintext", "email")
	db.Run(t, `ALTER TABLE users DROP COLUMN email_plaintext CASCADE`)
	anotherScheme(t, db, s, nil)
	if o := s.must("rotate", "users.email"); !strings.Contains(o.out, "to scheme 3: 180 rows") {
		t.Errorf("after the drop: %s", o.out)
	}
	who.knows(s.path("cipherfleet.kek.json"))
	who.remembers("", "email")
	if got := schemes(s); len(got) != 1 || got[3] != 180 || phaseOf(t, db) != "dropped" {
		t.Errorf("cells are of %v, the column is %s", got, phaseOf(t, db))
	}
}

func TestARotationIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	s := newShell(t, db.URL).withKey()
	s.must("advance", "users.email", "--to", "schema-added")
	unchanged(t, db, func() {
		s.run("rotate", "users.email").refusedWith(t, app.CodeRefused, "there are no cells to seal anew", "backfill")
		s.run("rotate", "users.note").refusedWith(t, app.CodeRefused, "not registered", "status")
		s.run("rotate", "users.email", "--to", "-1").refusedWith(t, app.CodeUsage, "scheme", "--help")
		s.run("rotate").refusedWith(t, app.CodeUsage, "table", "--help")
	})
	s.must(backfillUsers()...)
	anotherScheme(t, db, s, func(c *cell.Scheme) { c.Codec, c.Padding = cell.CodecInt, 0 })
	unchanged(t, db, func() {
		s.run("rotate", "users.email", "--to", "9").refusedWith(t, app.CodeRefused, "has no scheme 9", "scheme new")
		s.run("rotate", "users.email").refusedWith(t, app.CodeRefused, "seals 11 int", "codec")
	})
	db.Run(t, `UPDATE cipherfleet.schemes SET state = 'retired', retired_at = now() WHERE number = 2`)
	unchanged(t, db, func() {
		s.run("rotate", "users.email", "--to", "2").refusedWith(t, app.CodeRefused, "is retired", "scheme new")
	})
}

// Nothing is sealed under a scheme that somebody who is there cannot read.
func TestARotationWaitsForWhoeverCannotReadTheScheme(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 50)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	client := lifecycle.Lease{ID: "old-client", Kind: lifecycle.LeaseClient, Revision: testenv.One[int64](t, db, `SELECT revision FROM cipherfleet.installation`), For: time.Hour}
	if err := lifecycle.Present(t.Context(), db, client); err != nil {
		t.Fatal(err)
	}
	anotherScheme(t, db, s, nil)
	s.run("rotate", "users.email", "--wait", "0s").refusedWith(t, app.CodeWaiting, "old-client", "its lease runs out")
	if n := testenv.One[int](t, db, `SELECT number FROM cipherfleet.schemes WHERE state = 'active'`); n != 1 {
		t.Errorf("scheme %d is active", n)
	}
	p := s.start("rotate", "users.email")
	testenv.Eventually(t, time.Minute, func() error {
		if !strings.Contains(p.err.String(), "waiting: ") {
			return errors.New("it does not wait")
		}
		return nil
	})
	db.Run(t, `UPDATE cipherfleet.workers SET revision = i.revision FROM cipherfleet.installation i WHERE workers.id = 'old-client'`)
	if o := p.end(t); o.code != app.CodeDone || !strings.Contains(o.out, "rotated public.users.email to scheme 2") {
		t.Errorf("exit code %d: %s%s", o.code, o.out, o.err)
	}
}

func TestARotationNamesWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 50)
	db.Run(t, `UPDATE users SET email = (SELECT email FROM users WHERE id = 2) WHERE id = 1`)
	anotherScheme(t, db, s, nil)
	o := s.run("rotate", "users.email")
	if o.code != app.CodeUnproven || !strings.Contains(o.err, "1 rows are in quarantine") || !strings.Contains(o.out, "1 of scheme 1, 44 of scheme 2") {
		t.Errorf("exit code %d: %s%s", o.code, o.out, o.err)
	}
}

// A rotation that is killed at any moment goes on where it stood, and one that is interrupted pauses.
func TestARotationIsKilledAndPaused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 8_000)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	who := newResident(t, db)
	anotherScheme(t, db, s, nil)
	slowed(t, db)
	command := []string{"rotate", "users.email", "--chunk-rows", "200", "--user-triggers", "fire"}
	chunks := func(more int) {
		t.Helper()
		before := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`)
		testenv.Eventually(t, time.Minute, func() error {
			if testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`) < before+more {
				return errors.New("no chunk was committed")
			}
			return nil
		})
	}
	killed := s.start(command...)
	chunks(3)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.end(t)
	interrupted := s.start(command...)
	chunks(2)
	if err := interrupted.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if o := interrupted.end(t); o.code != app.CodePaused || !strings.Contains(o.err, "cipherfleet rotate users.email --to 2 resumes") {
		t.Fatalf("exit code %d: %s%s", o.code, o.out, o.err)
	}
	if got := schemes(s); got[1] == 0 || got[2] == 0 {
		t.Errorf("in the pause cells are of %v", got)
	}
	db.Run(t, `DROP TRIGGER slow ON users`)
	s.must(command...)
	who.knows(s.path("cipherfleet.kek.json"))
	who.remembers("email", "email_encrypted")
	if got := schemes(s); len(got) != 1 || got[2] != 7_200 {
		t.Errorf("cells are of %v", got)
	}
	if n := testenv.One[int64](t, db, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE job_id = (SELECT id FROM cipherfleet.jobs ORDER BY created_at DESC LIMIT 1)`); n != 7_200 {
		t.Errorf("the checkpoints say %d rows", n)
	}
}

// hand is a worker of the fleet; dismiss has it drop everything, as if it were killed.
func hand(t *testing.T, db *testenv.DB, s *shell, nats testenv.NATSServer, name string, alter ...func(*runner.Runner)) (dismiss func()) {
	t.Helper()
	queue := must(bus.Connect(t.Context(), bus.Config{URL: nats.URL, TokenFile: nats.TokenFile, Name: name}))
	work, dismissed := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &runner.Runner{DB: testenv.Open(t, db.URL).DB, Bus: queue, KEK: must(kms.Open(t.Context(), "file:"+s.path("cipherfleet.kek.json"), "")),
		Worker: name, Build: "test", Slots: 2, Lease: 3 * time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Tracer: noop.NewTracerProvider().Tracer("")}
	for _, f := range alter {
		f(r)
	}
	drain, ask := context.WithCancel(work)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(work, drain) }()
	t.Cleanup(func() {
		ask()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		dismissed()
		queue.Close()
	})
	return dismissed
}

// TestAFleetRotatesUnderTraffic: cells of three schemes become cells of a fourth, by two workers of which one drops
// everything, while an application writes under the old scheme and the new. Every value is what was committed last.
func TestAFleetRotatesUnderTraffic(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 4_000)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	who := newResident(t, db)
	who.honest.Store(true)
	live := func() (stop func()) {
		who.knows(s.path("cipherfleet.kek.json"))
		return who.live()
	}
	anotherScheme(t, db, s, func(c *cell.Scheme) { c.RowBound = false })
	s.must("rotate", "users.email")
	anotherScheme(t, db, s, func(c *cell.Scheme) { c.RowBound, c.Padding = true, 32 })
	for _, number := range []uint16{3, 1} {
		activate(t, db, s, number)
		who.knows(s.path("cipherfleet.kek.json"))
		for range 50 {
			if err := who.write(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := schemes(s); len(got) != 3 {
		t.Fatalf("cells are of %v", got)
	}
	stop := live()
	anotherScheme(t, db, s, nil)
	nats := testenv.NATS(t)
	fleet := newShell(t, db.URL).inNATS(nats).with("CIPHERFLEET_KEK", "file:"+s.path("cipherfleet.kek.json")).with("CIPHERFLEET_RECONCILE", "200ms")
	fleet.serve()
	hands := map[string]func(){"first": hand(t, db, s, nats, "first"), "second": hand(t, db, s, nats, "second")}
	leads(t, db)
	slowed(t, db)
	p := fleet.start("rotate", "users.email", "--chunk-rows", "50", "--user-triggers", "fire")
	testenv.Eventually(t, time.Minute, func() error {
		at := testenv.Column[string](t, db, `SELECT worker FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND worker IN ('first', 'second')`)
		if len(at) == 0 {
			return errors.New("no worker has done anything: " + p.err.String())
		}
		hands[at[0]]() // it drops everything
		return nil
	})
	db.Run(t, `DROP TRIGGER slow ON users`)
	stop()
	stop = live() // with the new scheme now
	if o := p.end(t); o.code != app.CodeDone {
		t.Fatalf("exit code %d: %s%s", o.code, o.out, o.err)
	}
	stop()
	fleet.must("rotate", "users.email") // what was written under the old scheme behind the last sweep
	who.knows(s.path("cipherfleet.kek.json"))
	who.remembers("email", "email_encrypted")
	if got := schemes(s); len(got) != 1 || got[4] == 0 {
		t.Errorf("cells are of %v", got)
	}
	s.must("verify", "--table", "users")
	for _, old := range []string{"1", "2", "3"} { // and Postgres proves it
		fleet.must("scheme", "retire", "users.email", old) // once the worker that stayed has heard of the last change
	}
	live()()
	who.remembers("email", "email_encrypted")
}

// TestATenantIsShreddedWhileAFleetRotates: whoever holds the tenant's key, from the moment in which it was deleted no cell
// of his is sealed anew; his rows are set aside, more than a job may have of others, and the rotation goes on to its end.
func TestATenantIsShreddedWhileAFleetRotates(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 6000)
	db.Run(t, `ALTER TABLE users ADD customer int; UPDATE users SET customer = id % 3`)
	s := newShell(t, db.URL).withKey()
	s.must("init", "--table", "users", "--column", "email")
	s.must("advance", "users.email", "--to", "schema-added")
	s.must("scheme", "new", "users.email", "--tenant", "customer")
	s.must("backfill", "--table", "users", "--column", "email", "--user-triggers", "fire")
	s.must("scheme", "new", "users.email", "--tenant", "")
	s.inNATS(testenv.NATS(t)).serve("--workers", "1")
	answers(t, s)
	slowed(t, db)
	rotated := make(chan outcome, 1)
	go func() {
		rotated <- s.runUntil(t.Context(), "rotate", "users.email", "--chunk-rows", "100", "--user-triggers", "fire")
	}()
	testenv.Eventually(t, time.Minute, func() error {
		if testenv.One[int](t, db, `SELECT count(*) FROM users WHERE substr(email_encrypted, 7, 2) = '\x0002'`) == 0 {
			return errors.New("no cell was sealed anew")
		}
		return nil
	})
	s.must("scheme", "shred", "users.email", "--tenant", "2", "--reason", "a test")
	const his = `SELECT md5(string_agg(email_encrypted::text, ' ' ORDER BY id)) FROM users WHERE customer = 2`
	before, left := testenv.One[string](t, db, his), testenv.One[int](t, db, `SELECT count(*) FROM users WHERE customer = 2 AND substr(email_encrypted, 7, 2) <> '\x0002'`)
	if left < 200 {
		t.Fatalf("it was too late: %d of his cells were left", left)
	}
	db.Run(t, `DROP TRIGGER slow ON users`)
	if o := <-rotated; o.code != app.CodeUnproven || !strings.Contains(o.err, "rows are in quarantine") {
		t.Errorf("exit code %d: %s", o.code, o.err)
	}
	if testenv.One[string](t, db, his) != before {
		t.Error("a cell of his was sealed anew")
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.quarantine WHERE reason = 'the key of its cell was destroyed'`); n != left {
		t.Errorf("%d rows are set aside, of %d", n, left)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE customer <> 2 AND substr(email_encrypted, 7, 2) <> '\x0002'`); n != 0 {
		t.Errorf("%d rows of others were left", n)
	}
}
