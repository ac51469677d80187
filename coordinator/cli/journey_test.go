package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestFromNothingToProven is the way of a newcomer: no schema, no key, no manifest; at the end every row is proven.
func TestFromNothingToProven(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 3000)
	s := newShell(t, db.URL)

	unchanged(t, db, func() {
		s.run("status").refusedWith(t, app.CodeRefused, "schema cipherfleet is not installed", "cipherfleet install")
		s.run("verify", "--table", "users").refusedWith(t, app.CodeUnavailable, "cipherfleet.kek.json", "cipherfleet init")
		s.run("backfill", "--table", "users", "--column", "email", "--prepare").refusedWith(t, app.CodeUnavailable, "cipherfleet.kek.json", "`cipherfleet init` creates it")
	})
	unchanged(t, db, func() { checkInit(t, s) })

	if o := s.must("install"); o.out != "installed schema cipherfleet, version 3\n" {
		t.Errorf("install said %q", o.out)
	}
	unchanged(t, db, func() {
		if have := parsed[installed](t, s.must("install", "--json").out); have != (installed{V: 1, Before: 2, Schema: 2}) {
			t.Errorf("install again said %+v", have)
		}
		s.run("verify", "--table", "users").refusedWith(t, app.CodeRefused, "no column of public.users was ever prepared", "backfill")
		if o := s.must("backfill", "--table", "users", "--column", "email", "--prepare", "--dry-run"); o.out != "" || !strings.Contains(o.err, "encrypt public.users: email (text, codec") {
			t.Errorf("a dry run said %+v", o)
		}
		if o := s.must("status"); !strings.HasPrefix(o.out, "public.users.email into email_encrypted: not begun (wanted: backfilled)\n") {
			t.Errorf("status said %q", o.out)
		}
	})

	job := parsed[messages.Job](t, s.must("backfill", "--table", "users", "--column", "email", "--prepare", "--json").out)
	if job.State != "done" || job.Rows != 2700 || job.Table != "public.users" {
		t.Errorf("the job ended as %+v", job)
	}
	checkBackfilled(t, s)
	checkProven(t, s)
	if o := s.must("backfill", "--table", "users", "--column", "email"); !strings.Contains(o.out, "backfilled public.users: 0 rows") {
		t.Errorf("again: %q", o.out)
	}
}

func checkInit(t *testing.T, s *shell) {
	t.Helper()
	o := s.must("init", "--table", "users", "--column", "email")
	if !strings.HasSuffix(o.out, "\nnext: cipherfleet backfill --table users --column email --prepare\n") {
		t.Errorf("init said %q", o.out)
	}
	info, err := os.Stat(s.path("cipherfleet.kek.json"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	m, err := manifest.Load(s.path("cipherfleet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Tables) != 1 || m.KEK != "file:cipherfleet.kek.json" || m.Tables[0].Key[0] != "id" || m.Tables[0].Columns[0].Target != "email_encrypted" {
		t.Errorf("the manifest is %+v", m)
	}
}

func checkBackfilled(t *testing.T, s *shell) {
	t.Helper()
	report := parsed[status.Report](t, s.must("status", "--json").out)
	if len(report.Columns) != 1 {
		t.Fatalf("status is %+v", report)
	}
	c := report.Columns[0]
	if c.Table != "public.users" || c.Column != "email" || c.Target != "email_encrypted" || c.Phase != lifecycle.PhaseBackfilled || *c.Reach != "backfilled" || len(c.Flags) > 0 {
		t.Errorf("the column is %+v", c)
	}
	if c.Coverage.Total != 3000 || c.Coverage.Covered != 3000 || c.Coverage.Uncovered != 0 || !c.Coverage.Exact || c.Coverage.Stale != nil {
		t.Errorf("coverage is %+v", c.Coverage)
	}
	if len(c.Schemes) != 1 || c.Schemes[0] != (status.SchemeRows{Number: 1, Rows: 2700}) || *c.Missed != 0 || *c.PerMinute != 0 || c.Verified != nil {
		t.Errorf("schemes %+v, missed %d, verified %v", c.Schemes, *c.Missed, c.Verified)
	}
	if c.Job == nil || c.Job.State != "done" || c.Job.Rows != 2700 || c.Job.StoppedBy != nil || c.Job.ETASeconds != nil {
		t.Errorf("the job is %+v", c.Job)
	}
}

func checkProven(t *testing.T, s *shell) {
	t.Helper()
	v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--column", "email", "--json").out)
	if !v.Proven || v.Table != "public.users" || len(v.Columns) != 1 {
		t.Fatalf("verify said %+v", v)
	}
	if c := v.Columns[0]; c.Rows != 3000 || c.Covered != 3000 || c.Schemes[1] != 2700 || len(c.Examples) != 0 || !c.Proven {
		t.Errorf("verify said %+v", c)
	}
	o := s.must("status", "--table", "public.users")
	for _, want := range []string{"public.users.email into email_encrypted: backfilled (wanted: backfilled)\n", "  covered   3000 of 3000 rows (100.0 %)\n",
		"  scheme    1: 2700 cells\n", ", every row was covered\n", " done: 2700 rows; ranges 0 open"} {
		if !strings.Contains(o.out, want) {
			t.Errorf("status has no %q:\n%s", want, o.out)
		}
	}
}
