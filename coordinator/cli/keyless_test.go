package cli

import (
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

// TestAWorkerWithoutAKeyLeavesCellsToOthers: it copies, although there are cells it could not open, and hands back what it
// would have to seal.
func TestAWorkerWithoutAKeyLeavesCellsToOthers(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	server := testenv.NATS(t)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	db.Run(t, `ALTER TABLE users ADD phone text; UPDATE users SET phone = 'phone ' || id`)
	s.inNATS(server).serve("--workers", "0")
	leads(t, db)
	hand(t, db, s, server, "keyless", func(r *runner.Runner) { r.KEK = nil })
	s.must("backfill", "--table", "users", "--column", "note", "--target", "note_copy", "--transform", "copy", "--prepare")
	done := make(chan outcome, 1)
	go func() { done <- s.run("backfill", "--table", "users", "--column", "phone", "--prepare") }()
	testenv.Eventually(t, time.Minute, func() error {
		if class := testenv.One[string](t, db, `SELECT coalesce(max(error_class), '') FROM cipherfleet.ranges`); class != "key" {
			return errors.New("the range was not handed back: " + class)
		}
		return nil
	})
	hand(t, db, s, server, "able")
	if o := <-done; o.code != app.CodeDone {
		t.Errorf("exit code %d\n%s", o.code, o.err)
	}
	s.must("verify", "--table", "users", "--column", "phone")
}
