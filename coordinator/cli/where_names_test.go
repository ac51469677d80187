package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// A condition goes on being asked of the columns that it was made of, whatever they are called by now and whatever has
// their names; capture, which finds them by name, is said to be another, and nobody takes the one for the other.
func TestAConditionWhoseColumnsHaveOtherNames(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20) // two have no e-mail
	db.Run(t, `UPDATE users SET note = 'out' WHERE id > 12`)
	s := newShell(t, db.URL).withKey()
	s.must(append(backfillUsers(), "--where", "note = 'n'")...)
	check := func(when string, outside, uncovered int64, flags ...string) {
		t.Helper()
		if c := s.column("--exact"); c.Coverage.Outside != outside || c.Coverage.Uncovered != uncovered || !slices.Equal(c.Flags, flags) {
			t.Errorf("%s: %+v, flags %v", when, c.Coverage, c.Flags)
		}
	}
	check("backfilled", 8, 0)
	db.Run(t, `CREATE OR REPLACE TRIGGER "~cipherfleet_1_missed_update" BEFORE UPDATE ON users FOR EACH ROW WHEN (false) EXECUTE FUNCTION cipherfleet.capture_1('counts');
ALTER TABLE users ENABLE ALWAYS TRIGGER "~cipherfleet_1_missed_update"`)
	check("a trigger that asks nothing", 8, 0, status.FlagCaptureAltered)
	s.must("backfill", "--table", "users", "--column", "email")
	check("mended", 8, 0)
	for _, alter := range []string{`ALTER TABLE users RENAME note TO remark`, `ALTER TABLE users ADD note text`} {
		db.Run(t, alter)
		check(alter, 8, 0, status.FlagCaptureAltered)
		s.must("verify", "--table", "users")
		unchanged(t, db, func() {
			o := s.run("backfill", "--table", "users", "--column", "email")
			o.err = strings.TrimSpace(o.err) + "\n"
			o.refusedWith(t, app.CodeRefused, "reads note, of which one is gone, or has another name", "names that its columns have now")
		})
	}
	db.Run(t, `INSERT INTO users (id, email, remark) VALUES (21, 'late', 'n'); UPDATE users SET remark = 'n' WHERE id = 13; UPDATE users SET note = 'n' WHERE id = 14`)
	check("two came in", 7, 2, status.FlagCaptureAltered, status.FlagUncovered)
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven || !strings.Contains(o.out, "2 uncovered") {
		t.Errorf("%+v", o)
	}
	s.must("backfill", "--table", "users", "--column", "email", "--where", "remark = 'n'")
	check("said anew", 7, 0)
	s.must("verify", "--table", "users")

	db.Run(t, `ALTER TABLE users DROP remark CASCADE`)
	check("a column is gone", 0, 6, status.FlagCaptureAltered, status.FlagUncovered) // one of the seven has no e-mail
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven || !strings.Contains(o.out, "6 uncovered") {
		t.Errorf("%+v", o)
	}
}

// Without its trigger nothing keeps a column of a condition from having another type; then every row counts.
func TestAConditionWhoseColumnHasAnotherType(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	db.Run(t, `ALTER TABLE users ADD tenant int; UPDATE users SET tenant = id % 2`)
	s := newShell(t, db.URL).withKey()
	s.must(append(backfillUsers(), "--where", "tenant = 1")...)
	if _, err := db.Exec(t.Context(), `ALTER TABLE users ALTER tenant TYPE bigint`); err == nil {
		t.Error("capture does not keep the type")
	}
	db.Run(t, dropCapture+`ALTER TABLE users ALTER tenant TYPE bigint`)
	if c := s.column("--exact"); c.Coverage.Outside != 0 || c.Coverage.Uncovered != 8 || !slices.Contains(c.Flags, status.FlagCaptureMissing) {
		t.Errorf("%+v, flags %v", c.Coverage, c.Flags)
	}
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven || !strings.Contains(o.out, "8 uncovered") {
		t.Errorf("%+v", o)
	}
	s.must("backfill", "--table", "users", "--column", "email")
	if c := s.column("--exact"); c.Coverage.Outside != 10 || c.Coverage.Uncovered != 0 || len(c.Flags) > 0 {
		t.Errorf("%+v, flags %v", c.Coverage, c.Flags)
	}
}

// A condition whose function somebody took away, with one of his own that it called, cannot be asked any more: every row
// counts, and the next job makes it again.
func TestAConditionWhoseFunctionIsGone(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	db.Run(t, `CREATE FUNCTION eu(bigint) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 6'`)
	s := newShell(t, db.URL).withKey()
	again := append(backfillUsers(), "--where", "public.eu(id)")
	s.must(again...)
	db.Run(t, `DROP FUNCTION eu(bigint) CASCADE; INSERT INTO users VALUES (0, 'late', 'n')`)
	if c := s.column("--exact"); c.Coverage.Outside != 0 || c.Coverage.Uncovered != 14 || *c.Missed != 1 || !slices.Equal(c.Flags, []string{status.FlagCaptureAltered, status.FlagUncovered}) {
		t.Errorf("%+v, %d missed, flags %v", c.Coverage, *c.Missed, c.Flags)
	}
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven || !strings.Contains(o.out, "14 uncovered") {
		t.Errorf("%+v", o)
	}
	if o := s.run("backfill", "--table", "users", "--column", "email"); o.code != app.CodeRefused || !strings.Contains(o.err, "42883") {
		t.Errorf("%+v", o)
	}
	db.Run(t, `CREATE FUNCTION eu(bigint) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 6'`)
	s.must(again...)
	if c := s.column("--exact"); c.Coverage.Outside != 15 || c.Coverage.Uncovered != 0 || len(c.Flags) > 0 {
		t.Errorf("%+v, flags %v", c.Coverage, c.Flags)
	}
	s.must("verify", "--table", "users")
}

// Who may not read the table cannot have rows asked whether they are outside: status does not say that they have cells.
func TestAConditionThatNobodyMayAsk(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	owner := newShell(t, db.URL).withKey()
	owner.must(append(backfillUsers(), "--where", "id < 6")...)
	_, at := role(t, db, "watches", `GRANT USAGE ON SCHEMA cipherfleet TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %s`)
	s := newShell(t, at)
	check := func() {
		t.Helper()
		if c := s.column(); !c.Coverage.OutsideIn || c.Coverage.Exact || len(c.Schemes) > 0 || *c.Where != "(id < 6)" {
			t.Errorf("%+v, schemes %v", c.Coverage, c.Schemes)
		}
		if page := s.must("status").out; !strings.Contains(page, "rows (100.0 %), with those outside the condition\n") {
			t.Error(page)
		}
		if c := owner.column(); c.Coverage.OutsideIn || c.Coverage.Outside != 15 || len(c.Schemes) != 1 {
			t.Errorf("%+v, schemes %v", c.Coverage, c.Schemes)
		}
	}
	check()
	owner.must("scheme", "new", "users.email")
	owner.must("rotate", "users.email")
	check()
	owner.must("backfill", "--table", "users", "--column", "email", "--where", "true")
	if c := s.column(); c.Coverage.OutsideIn || len(c.Schemes) != 1 || c.Where != nil {
		t.Errorf("%+v, schemes %v", c.Coverage, c.Schemes)
	}
}

// A column that the condition of another one reads is not cut over, and not dropped, without a word.
func TestAConditionThatReadsAColumnWhichIsCutOver(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	s := newShell(t, db.URL).withKey()
	s.must(append(backfillUsers(), "--where", "note = 'n' AND email <> 'x'")...)
	s.must("backfill", "--table", "users", "--column", "note", "--prepare")
	s.must("verify", "--table", "users")
	s.intent("- table: users\n  columns:\n  - {source: email, schemes: {1: {padding: 16}}, reach: cut-over, soak: 0s}\n")
	if c := s.plan(app.CodeWaiting).Columns[0]; len(c.Blockers) > 0 || c.Steps[len(c.Steps)-1].Command != "cipherfleet cutover users.email" {
		t.Errorf("its own condition: %+v", c)
	}
	s.intent("- table: users\n  columns:\n  - {source: note, schemes: {1: {padding: 16}}, reach: dropped, soak: 0s}\n")
	const message = "condition of email_encrypted on public.users"
	if c := s.plan(app.CodeRefused).Columns[0]; len(c.Blockers) != 1 || !strings.Contains(c.Blockers[0].Message, message) {
		t.Errorf("%+v", c.Blockers)
	}
	s.run("cutover", "users.note", "--soak", "0").refusedWith(t, app.CodeRefused, "silently change what these mean: "+message, "--despite 'email_encrypted'")
	s.must("cutover", "users.note", "--soak", "0", "--despite", "email_encrypted")
	if c := s.run("status", "--exact"); !strings.Contains(c.out, "18 of 18 rows (100.0 %), 2 outside the condition") {
		t.Error(c.out)
	}
	s.run("drop", "users.note", "--apply").refusedWith(t, app.CodeRefused, "because these depend on it: "+message, "make them do without the column")
	s.must("backfill", "--table", "users", "--column", "email", "--where", "id > 5")
	s.must("drop", "users.note", "--apply")
	s.must("verify", "--table", "users")
	if c := s.run("plan"); strings.Contains(c.out, "condition") {
		t.Error(c.out)
	}
}
