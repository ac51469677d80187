package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// column is the status of the one column there is.
func (s *shell) column(args ...string) status.Column {
	s.t.Helper()
	report := parsed[status.Report](s.t, s.must(append([]string{"status", "--json"}, args...)...).out)
	if len(report.Columns) != 1 {
		s.t.Fatalf("there are %d columns", len(report.Columns))
	}
	return report.Columns[0]
}

// drift is something done behind cipherfleet's back, the flag that tells, and what mends it.
type drift struct {
	sql   string
	flags []string
	again string // backfill with these flags leaves no flag; empty: nothing to mend
}

// askNothing has the condition of capture's trigger for updates never hold.
const askNothing = `DO $$ BEGIN EXECUTE (SELECT replace(pg_get_functiondef(oid), prosrc, E'\nBEGIN RETURN false; END\n') FROM pg_proc WHERE proname = 'misses_1'); END $$`

func drifts() map[string]drift {
	const same = "--table users --column email"
	return map[string]drift{
		"table dropped":      {sql: `DROP TABLE users`, flags: []string{status.FlagTableMissing}},
		"table renamed":      {sql: `ALTER TABLE users RENAME TO people`, flags: []string{status.FlagTableRenamed}},
		"table moved":        {sql: `CREATE SCHEMA crm; ALTER TABLE users SET SCHEMA crm`, flags: []string{status.FlagTableRenamed}},
		"source renamed":     {sql: `ALTER TABLE users RENAME email TO mail`, flags: []string{status.FlagSourceRenamed}},
		"target renamed":     {sql: `ALTER TABLE users RENAME email_encrypted TO sealed`, flags: []string{status.FlagTargetRenamed}},
		"source dropped":     {sql: `ALTER TABLE users DROP email CASCADE`, flags: []string{status.FlagSourceMissing, status.FlagCaptureMissing}},
		"target dropped":     {sql: `ALTER TABLE users DROP email_encrypted CASCADE`, flags: []string{status.FlagTargetMissing, status.FlagCheckMissing, status.FlagCaptureMissing}, again: same + " --prepare"},
		"check dropped":      {sql: `ALTER TABLE users DROP CONSTRAINT cipherfleet_1_cell`, flags: []string{status.FlagCheckMissing}, again: same},
		"check not valid":    {sql: `UPDATE pg_constraint SET convalidated = false WHERE conname = 'cipherfleet_1_cell'`, flags: []string{status.FlagCheckNotValidated}, again: same},
		"capture dropped":    {sql: `DROP TRIGGER "~cipherfleet_1_update" ON users`, flags: []string{status.FlagCaptureMissing}, again: same},
		"capture incomplete": {sql: `DROP TRIGGER "~cipherfleet_1_insert" ON users`, flags: []string{status.FlagCaptureMissing}, again: same},
		"capture disabled":   {sql: `ALTER TABLE users DISABLE TRIGGER "~cipherfleet_1_insert"`, flags: []string{status.FlagCaptureDisabled}, again: same},
		"capture not always": {sql: `ALTER TABLE users ENABLE TRIGGER "~cipherfleet_1_update"`, flags: []string{status.FlagCaptureNotAlways}, again: same},
		"condition altered":  {sql: askNothing, flags: []string{status.FlagCaptureAltered}, again: same},
		"condition replaced": {sql: `CREATE OR REPLACE TRIGGER "~cipherfleet_1_update" BEFORE UPDATE ON users FOR EACH ROW WHEN (false) EXECUTE FUNCTION cipherfleet.capture_1();
			ALTER TABLE users ENABLE ALWAYS TRIGGER "~cipherfleet_1_update"`, flags: []string{status.FlagCaptureAltered}, again: same},
		"key retired": {sql: `UPDATE cipherfleet.schemes SET state = 'readable'`, flags: []string{status.FlagKeyMissing}, again: same},
	}
}

func TestStatusFlagsDrift(t *testing.T) {
	t.Parallel()
	for name, test := range drifts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 100)
			s := newShell(t, db.URL).withKey()
			s.must(backfillUsers()...)
			if flags := s.column().Flags; len(flags) > 0 {
				t.Fatalf("flags before: %v", flags)
			}
			db.Run(t, test.sql)
			if flags := s.column().Flags; !slices.Equal(flags, test.flags) {
				t.Errorf("flags are %v, want %v", flags, test.flags)
			}
			if text := s.must("status").out; !strings.Contains(text, "  flags     "+strings.Join(test.flags, ", ")+"\n") {
				t.Errorf("a person reads\n%s", text)
			}
			if test.again == "" {
				return
			}
			s.must(append([]string{"backfill"}, strings.Fields(test.again)...)...)
			if c := s.column(); len(c.Flags) > 0 || c.Phase != lifecycle.PhaseBackfilled {
				t.Errorf("after another backfill it is %s with flags %v", c.Phase, c.Flags)
			}
			s.must("verify", "--table", "users")
		})
	}
}

func TestStatusNamesAreTodays(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	db.Run(t, `CREATE SCHEMA crm; ALTER TABLE users SET SCHEMA crm; ALTER TABLE crm.users RENAME TO "People"; ALTER TABLE crm."People" RENAME email TO mail; ALTER TABLE crm."People" RENAME email_encrypted TO sealed`)
	for _, name := range []string{"People", "crm.People", "users", "public.users"} {
		if c := s.column("--table", name); c.Table != "crm.People" || c.Column != "mail" || c.Target != "sealed" || c.Phase != lifecycle.PhaseBackfilled || c.Coverage.Covered != 100 {
			t.Errorf("--table %s: %+v", name, c)
		}
	}
	s.run("status", "--table", "person").refusedWith(t, 4, `no column of a table "person" is registered`, "lists every column")
	v := parsed[verify.Result](t, s.must("verify", "--table", "crm.People", "--column", "mail", "--json").out)
	if !v.Proven || v.Table != "crm.People" || v.Columns[0].Column != "mail" || v.Columns[0].Target != "sealed" {
		t.Errorf("verify said %+v", v)
	}
	if o := s.must("backfill", "--schema", "crm", "--table", "People", "--column", "mail", "--target", "sealed"); !strings.Contains(o.out, "backfilled crm.People") {
		t.Errorf("backfill under the new names said %q", o.out)
	}
}

// TestStatusEstimates: of a table larger than what is counted at once only a sample is read.
func TestStatusEstimates(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	const rows = 40_000
	people(t, db, rows)
	db.Run(t, `UPDATE users SET note = repeat('n', 300)`)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	db.Run(t, `UPDATE users SET email = email || 'x' WHERE id % 4 = 1`)
	missed := testenv.One[int64](t, db, `SELECT count(*) FROM users WHERE email IS NOT NULL AND email_encrypted IS NULL`)
	c := s.column()
	if near := func(have, want int64) bool { return have > want*85/100 && have < want*115/100 }; c.Coverage.Exact || c.Coverage.Total != rows ||
		!near(c.Coverage.Uncovered, missed) || !near(c.Schemes[0].Rows, rows*9/10-missed) || c.Coverage.Covered+c.Coverage.Uncovered != c.Coverage.Total {
		t.Errorf("%d of %d missed: %+v, %+v", missed, rows, c.Coverage, c.Schemes)
	}
	if *c.Missed != missed || *c.PerMinute <= 0 || *c.PerMinute > float64(missed) {
		t.Errorf("missed writes: %d, %f a minute, want %d", *c.Missed, *c.PerMinute, missed)
	}
	if text := s.must("status").out; !strings.Contains(text, fmt.Sprintf("%d writes were caught that did not write the target", missed)) || !strings.Contains(text, "about ") {
		t.Errorf("a person reads\n%s", text)
	}
	if c := s.column("--exact"); !c.Coverage.Exact || c.Coverage.Total != rows || c.Coverage.Uncovered != missed || c.Schemes[0].Rows != rows*9/10-missed {
		t.Errorf("exactly: %+v, %+v", c.Coverage, c.Schemes)
	}
}

// TestStatusOfPartitions: rows of every leaf count, and a leaf whose capture was switched off is told.
func TestStatusOfPartitions(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text, note text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF users FOR VALUES FROM (MINVALUE) TO (50); CREATE TABLE high PARTITION OF users DEFAULT;
INSERT INTO users SELECT g, 'user' || g FROM generate_series(1, 100) g`)
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--column", "note", "--prepare")
	report := parsed[status.Report](t, s.must("status", "--json").out)
	if len(report.Columns) != 2 || report.Columns[0].Coverage.Covered != 100 || report.Columns[1].Coverage.Covered != 100 || len(report.Columns[1].Schemes) != 0 {
		t.Errorf("%+v", report)
	}
	db.Run(t, `ALTER TABLE low DISABLE TRIGGER "~cipherfleet_1_update"`)
	report = parsed[status.Report](t, s.must("status", "--json", "--exact").out)
	if !slices.Equal(report.Columns[0].Flags, []string{status.FlagCaptureDisabled}) || len(report.Columns[1].Flags) != 0 {
		t.Errorf("%+v", report)
	}
	s.run("verify", "--table", "low").refusedWith(t, 4, "public.low is a partition of public.users", `name table "users"`)
	v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--json").out)
	if !v.Proven || len(v.Columns) != 2 || v.Columns[0].Rows != 100 || v.Columns[1].Rows != 100 {
		t.Errorf("verify said %+v", v)
	}
}
