package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// backfillUsers is the command that most of these tests run.
func backfillUsers() []string {
	return []string{"backfill", "--table", "users", "--column", "email", "--prepare"}
}

// inNATS is the shell with a NATS to use.
func (s *shell) inNATS(n testenv.NATSServer) *shell {
	return s.with("NATS_URL", n.URL).with("CIPHERFLEET_NATS_TOKEN_FILE", n.TokenFile)
}

// serve runs a coordinator until the test or stop ends it, and waits until it leads or stands by.
func (s *shell) serve(args ...string) (stop func() outcome) {
	s.t.Helper()
	s.with("CIPHERFLEET_LISTEN", "off")
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan outcome, 1)
	go func() { ended <- s.runUntil(ctx, append([]string{"serve"}, args...)...) }()
	stop = func() outcome {
		cancel()
		o := <-ended
		ended <- o
		return o
	}
	s.t.Cleanup(func() { stop() })
	return stop
}

// leads waits until some coordinator leads and has looked at its queue.
func leads(t *testing.T, db *testenv.DB) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() error {
		var held bool
		err := db.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1668310636 AND granted
 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AND queue <> '{}' FROM cipherfleet.installation`).Scan(&held)
		if err == nil && !held {
			err = errors.New("nobody leads")
		}
		return err
	})
}

func TestNATSIsOutOfReach(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL).withKey().with("NATS_URL", "nats://127.0.0.1:1")
	unchanged(t, db, func() {
		s.run(backfillUsers()...).refusedWith(t, app.CodeUnavailable, "NATS cannot be reached", "NATS_URL")
	})
}

func TestNATSDeniesAccess(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL).withKey().inNATS(testenv.NATSServer{URL: testenv.OwnNATS(t).URL()})
	unchanged(t, db, func() {
		s.run(backfillUsers()...).refusedWith(t, app.CodeDenied, "NATS denies access", "CIPHERFLEET_NATS_TOKEN_FILE")
	})
	s.write("token", "not the token", 0o600)
	s.with("CIPHERFLEET_NATS_TOKEN_FILE", s.path("token"))
	unchanged(t, db, func() {
		s.run("serve").refusedWith(t, app.CodeDenied, "NATS denies access", "CIPHERFLEET_NATS_TOKEN_FILE")
	})
	s.with("CIPHERFLEET_NATS_TOKEN_FILE", s.path("no-such-file"))
	s.run(backfillUsers()...).refusedWith(t, app.CodeUsage, "no such file", "CIPHERFLEET_NATS_CREDS")
}

func TestNoCoordinatorAnswers(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL).inNATS(testenv.NATS(t)) // and no key: whoever follows a fleet needs none
	unchanged(t, db, func() {
		s.run(backfillUsers()...).refusedWith(t, app.CodeUnavailable, "no coordinator answers", "cipherfleet serve")
	})
}

func TestJetStreamIsDisabled(t *testing.T) {
	t.Parallel()
	bare, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	bare.Start()
	t.Cleanup(func() { bare.Shutdown(); bare.WaitForShutdown() })
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL).withKey().with("NATS_URL", bare.ClientURL()).with("CIPHERFLEET_LISTEN", "off")
	s.run("serve").refusedWith(t, app.CodeUnavailable, "JetStream is not enabled", "nats-server with -js")
	unchanged(t, db, func() {
		s.run(backfillUsers()...).refusedWith(t, app.CodeUnavailable, "no coordinator answers", "cipherfleet serve")
	})
}

func TestJetStreamIsFull(t *testing.T) {
	t.Parallel()
	small, err := embedded.StartNATS(embedded.NATSOptions{Dir: t.TempDir(), MaxStore: 4096})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := small.Stop(); err != nil {
			t.Error(err)
		}
	})
	db := testenv.Database(t)
	s := newShell(t, db.URL).withKey().inNATS(testenv.NATSServer{URL: small.URL(), TokenFile: small.TokenFile()}).with("CIPHERFLEET_LISTEN", "off")
	s.run("serve").refusedWith(t, app.CodeUnavailable, "JetStream is full", "give JetStream more room")
}

func TestAnotherCoordinatorLeads(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL).withKey()
	s.serve("--embedded", "--nats-port", "0")
	leads(t, db)
	alone := newShell(t, db.URL).withKey()
	unchanged(t, db, func() {
		alone.run(backfillUsers()...).refusedWith(t, app.CodeRefused, "another coordinator leads this installation", "set NATS_URL")
	})
}

// TestAStandbyTakesOver: the second coordinator waits, and answers when the first one has gone.
func TestAStandbyTakesOver(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 1000)
	nats := testenv.NATS(t)
	first := newShell(t, db.URL).withKey().inNATS(nats)
	second := newShell(t, db.URL).inNATS(nats).with("CIPHERFLEET_KEK", "file:"+first.path("cipherfleet.kek.json")).with("CIPHERFLEET_RECONCILE", "100ms")
	stop := first.serve()
	leads(t, db)
	second.serve("--workers", "1")
	testenv.Eventually(t, time.Minute, func() error {
		if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.workers`); n != 1 {
			return fmt.Errorf("%d workers", n)
		}
		return nil
	})
	if o := stop(); o.code != app.CodeDone || strings.Contains(o.err, "panic") {
		t.Errorf("the first ended with %d: %s", o.code, o.err)
	}
	leads(t, db)
	follower := newShell(t, db.URL).inNATS(nats)
	testenv.Eventually(t, time.Minute, func() error { // it leads a moment before it answers
		if o := follower.run(backfillUsers()...); o.code != app.CodeDone {
			return fmt.Errorf("exit code %d: %s", o.code, o.err)
		}
		return nil
	})
	first.must("verify", "--table", "users")
}
