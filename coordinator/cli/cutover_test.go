package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
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

func TestCutoverTakesOver(t *testing.T) {
	t.Parallel()
	db, s := verifiedUsers(t, 300)
	unchanged(t, db, func() {
		plan := s.must("cutover", "users.email", "--soak", "0", "--dry-run").out
		for _, want := range []string{"CREATE INDEX CONCURRENTLY", "-- lock: ACCESS EXCLUSIVE\nLOCK TABLE", `RENAME COLUMN "email" TO "email_plaintext"`, "-- nothing was changed"} {
			if !strings.Contains(plan, want) {
				t.Errorf("%q is missing:\n%s", want, plan)
			}
		}
	})
	if o := s.must("cutover", "users.email", "--soak", "0"); o.out != "public.users.email is cut over: the cells are in column email, the plaintext is in email_plaintext\n" {
		t.Errorf("printed %q", o.out)
	}
	if have := columnsOf(t, db, "users"); have != "id email_plaintext note email" {
		t.Errorf("columns: %s", have)
	}
	result := parsed[ladder.CutoverResult](t, s.must("cutover", "users.email", "--json").out)
	if !result.Already || result.Proof != standing.ProofFull || result.Strategy != standing.StrategySwap {
		t.Errorf("%+v", result)
	}
	s.must("verify", "--table", "users")
	unchanged(t, db, func() {
		for _, column := range []string{"email", "email_plaintext"} {
			s.run("backfill", "--table", "users", "--column", column, "--prepare").refusedWith(t, app.CodeRefused, `column "email" is cut over`, "cipherfleet rollback")
		}
	})
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

// TestCutoverHasUncoveredRowsSealedHere: without a fleet this process seals them.
func TestCutoverHasUncoveredRowsSealedHere(t *testing.T) {
	t.Parallel()
	db, s := verifiedUsers(t, 100)
	db.Run(t, `INSERT INTO users VALUES (1000, 'late@example.org')`)
	if o := s.must("cutover", "users.email", "--soak", "0"); strings.Contains(o.out, "backfilled") || !strings.Contains(o.err, "backfilled public.users") {
		t.Errorf("printed %q, and aside %q", o.out, o.err)
	}
	wantWhole(t, db)
	s.must("verify", "--table", "users")
}

// TestCutoverHasUncoveredRowsSealedByTheFleet: its coordinator may have begun by itself, and then the proof is of before.
func TestCutoverHasUncoveredRowsSealedByTheFleet(t *testing.T) {
	t.Parallel()
	db, s := verifiedUsers(t, 100)
	s.inNATS(testenv.NATS(t)).serve("--workers", "1")
	leads(t, db)
	db.Run(t, `INSERT INTO users VALUES (1000, 'late@example.org')`)
	testenv.Eventually(t, 60*time.Second, func() error {
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
