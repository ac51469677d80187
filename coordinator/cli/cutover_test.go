package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// verifiedUsers is a table whose column email is encrypted and verified, and a shell for it.
func verifiedUsers(t *testing.T, n int) (*testenv.DB, *shell) {
	t.Helper()
	db := testenv.Database(t)
	people(t, db, n)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.must("verify", "--table", "users")
	return db, s
}

func TestCutoverRefuses(t *testing.T) {
	t.Parallel()
	db, s := verifiedUsers(t, 20)
	unchanged(t, db, func() {
		s.run("cutover", "users.email").refusedWith(t, app.CodeWaiting, "have been watched for", "wait until")
		s.run("cutover", "users.email", "--soak", "24h").refusedWith(t, app.CodeWaiting, "have been watched for", "wait until")
		s.run("cutover", "users.email", "--soak", "-1s").refusedWith(t, app.CodeUsage, "--soak was", "cipherfleet cutover --help")
		s.run("cutover", "users.email", "--strategy", "rename").refusedWith(t, app.CodeUsage, `--strategy was "rename"`, "cipherfleet cutover --help")
		s.run("cutover", "users").refusedWith(t, app.CodeUsage, "table.column", "cipherfleet cutover --help")
		s.run("cutover", "users.note", "--soak", "0").refusedWith(t, app.CodeRefused, "is not registered", "cipherfleet status")
	})
	s.write("cipherfleet.yaml", "version: 1\ntables:\n  - table: users\n    columns:\n      - {source: email, scheme: 1, schemes: {1: {suite: xaes-256-gcm}}, cutover: by-name, soak: 0s}\n", 0o644)
	if plan := s.must("cutover", "users.email", "--dry-run").out; strings.Contains(plan, "RENAME") {
		t.Errorf("the manifest wants no renaming:\n%s", plan)
	}
	db.Run(t, `CREATE VIEW addresses AS SELECT email FROM users; CREATE INDEX ON users (email)`)
	unchanged(t, db, func() {
		s.run("cutover", "users.email").refusedWith(t, app.CodeRefused, "index public.users_email_idx; view public.addresses", "--despite")
	})
	s.must("cutover", "users.email", "--despite", "public.addresses", "--despite", "public.users_email_idx")
}

// TestCutoverHasUncoveredRowsSealedByTheFleet: its coordinator may have begun by itself, and then the proof is of before.
func TestCutoverHasUncoveredRowsSealedByTheFleet(t *testing.T) {
	t.Parallel()
	db, s := verifiedUsers(t, 100)
	s.inNATS(testenv.NATS(t)).serve("--workers", "1")
	leads(t, db)
	db.Run(t, `INSERT INTO users VALUES (1000, 'late@example.org')`)
	testenv.Eventually(t, time.Minute, func() error {
		o := s.run("cutover", "users.email", "--soak", "0", "--reason", "the table of a test")
		if o.code != app.CodeDone {
			return fmt.Errorf("exit code %d: %s", o.code, o.err)
		}
		return nil
	})
	wantWhole(t, db)
}

// wantWhole checks that after a cutover every value has its cell.
func wantWhole(t *testing.T, db *testenv.DB) {
	t.Helper()
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE (email IS NULL) <> (email_plaintext IS NULL)`); n != 0 {
		t.Errorf("%d rows are uncovered", n)
	}
}
