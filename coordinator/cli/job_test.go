package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// stubborn keeps rows 7 and 11 from being written.
func stubborn(t *testing.T, db *testenv.DB) {
	t.Helper()
	db.Run(t, `CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id IN (7, 11) THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER stubborn BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stubborn()`)
}

// only is the one job there is.
func (s *shell) only() messages.Job {
	s.t.Helper()
	list := parsed[messages.JobList](s.t, s.must("job", "ls", "--json").out)
	if len(list.Jobs) != 1 {
		s.t.Fatalf("there are %d jobs", len(list.Jobs))
	}
	return list.Jobs[0]
}

// TestAQuarantineIsShownAndTriedAgain: by one person alone, without NATS.
func TestAQuarantineIsShownAndTriedAgain(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	stubborn(t, db)
	s := newShell(t, db.URL).withKey()
	unchanged(t, db, func() {
		if text := s.must("job", "ls").out; !strings.Contains(text, "no job was started yet") {
			t.Errorf("a person reads %q", text)
		}
	})
	failed := s.run(append(backfillUsers(), "--user-triggers", "fire")...)
	job := s.only()
	failed.refusedWith(t, app.CodeUnproven, "2 rows are in quarantine", "cipherfleet job retry "+job.ID+" --quarantined")
	checkQuarantine(t, db, s, job)

	again := []string{"job", "retry", job.ID, "--quarantined"}
	unchanged(t, db, func() {
		if o := s.must(append(again, "--dry-run")...); !strings.Contains(o.err, "would try its quarantine again\nnothing was changed") {
			t.Errorf("a dry run says %q", o.err)
		}
	})
	s.run(again...).refusedWith(t, app.CodeUnproven, "2 rows are in quarantine", "cipherfleet job show")
	db.Run(t, `DROP TRIGGER stubborn ON users`)
	if o := s.must(again...); !strings.HasPrefix(o.out, "backfilled public.users: 90 rows") {
		t.Errorf("tried again: %q", o.out)
	}
	s.must("verify", "--table", "users")
	unchanged(t, db, func() {
		s.run(again...).refusedWith(t, app.CodeRefused, "the job is done, which does not allow it", "cipherfleet backfill")
		s.run("job", "pause", job.ID).refusedWith(t, app.CodeRefused, "the job is done, which does not allow it", "cipherfleet backfill")
		s.run("job", "cancel", job.ID, "--dry-run").refusedWith(t, app.CodeRefused, "the job is done, which does not allow it", "cipherfleet backfill")
	})
}

// checkQuarantine: rows are named by hashes, and by their keys only to whoever asks for them.
func checkQuarantine(t *testing.T, db *testenv.DB, s *shell, job messages.Job) {
	t.Helper()
	hashes := testenv.Column[string](t, db, `SELECT key_hash FROM cipherfleet.quarantine ORDER BY key[1]::int`)
	unchanged(t, db, func() {
		list := s.must("job", "ls").out
		if !strings.Contains(list, job.ID) || !strings.Contains(list, "public.users  email    failed") || !strings.Contains(list, "2 rows are in quarantine") {
			t.Errorf("the list is\n%s", list)
		}
		for _, test := range []struct {
			flags        string
			hashes, keys bool
		}{{"", false, false}, {"--quarantined", true, false}, {"--quarantined --keys", true, true}} {
			o := s.must(append([]string{"job", "show", job.ID[:9]}, strings.Fields(test.flags)...)...)
			for i, key := range []string{"7", "11"} {
				if strings.Contains(o.out, hashes[i]) != test.hashes || strings.Contains(o.out, fmt.Sprintf(`; key id = "%s"`, key)) != test.keys {
					t.Errorf("job show %s says\n%s", test.flags, o.out)
				}
			}
			if strings.Contains(o.err, "keys are data") != test.keys {
				t.Errorf("job show %s warns %q", test.flags, o.err)
			}
		}
		seen := parsed[page.Shown](t, s.must("job", "show", job.ID, "--quarantined", "--json").out)
		if len(seen.Quarantine) != 2 || seen.Quarantine[0].Key != nil || seen.Quarantine[0].Reason != "a trigger suppresses the write" ||
			seen.Quarantine[0].Table != "public.users" || seen.Quarantine[0].Columns[0] != "email" || seen.Key[0] != "id" || seen.State != "failed" {
			t.Errorf("shown is %+v", seen)
		}
	})
}

func TestJobCallsAreRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `INSERT INTO cipherfleet.jobs (id, relid, spec, state) SELECT ('aaaaaaaa-0000-4000-8000-00000000000' || i)::uuid, i, '{}', 'done' FROM generate_series(1, 2) i`)
	s := newShell(t, db.URL)
	unchanged(t, db, func() {
		for call, want := range map[string]struct {
			code          int
			message, hint string
		}{
			"pause":            {app.CodeUsage, "takes one job", "--help"},
			"show x":           {app.CodeUsage, `was "x"`, "job ls"},
			"show b":           {app.CodeRefused, "there is no job whose id begins with b", "job ls"},
			"cancel aaaa":      {app.CodeUsage, "several jobs begin with aaaa", "give more of it"},
			"show aaaa --keys": {app.CodeUsage, "--keys is for --quarantined", "--help"},
			"retry aaaa":       {app.CodeUsage, "--quarantined is missing", "--help"},
			"ls --limit 0":     {app.CodeUsage, "--limit was 0", "--help"},
			"stop aaaa":        {app.CodeUsage, `unknown command "stop"`, "--help"},
		} {
			s.run(append([]string{"job"}, strings.Fields(call)...)...).refusedWith(t, want.code, want.message, want.hint)
		}
	})
	newShell(t, testenv.EmptyDatabase(t).URL).run("job", "ls").refusedWith(t, app.CodeRefused, "not installed", "cipherfleet install")
}

// TestAJobIsUnderControlInAFleet: through the coordinator, each verb in under a second; without NATS_URL nothing is
// done behind its back, but anybody who may read can look.
func TestAJobIsUnderControlInAFleet(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 60_000)
	slowed(t, db)
	s := newShell(t, db.URL).withKey().inNATS(testenv.NATS(t))
	s.serve("--workers", "1")
	answers(t, s)
	followed := make(chan outcome, 1)
	go func() {
		followed <- s.run(append(backfillUsers(), "--chunk-rows", "100", "--user-triggers", "fire")...)
	}()
	underWay(t, db)
	job := s.only()

	does := func(verb, state string) {
		t.Helper()
		if now := parsed[messages.Job](t, s.must("job", verb, job.ID[:18], "--json").out); now.State != state || now.ID != job.ID {
			t.Errorf("after %s the job is %+v", verb, now)
		}
	}
	outsider := newShell(t, db.URL)
	outsider.run("job", "pause", job.ID).refusedWith(t, app.CodeRefused, "a coordinator leads this installation", "set NATS_URL")
	outsider.run("job", "pause", job.ID, "--dry-run").refusedWith(t, app.CodeRefused, "a coordinator leads this installation", "set NATS_URL")
	does("pause", "paused")
	(<-followed).refusedWith(t, app.CodePaused, "paused after", "the same command resumes")
	rows := testenv.One[int64](t, db, `SELECT count(email_encrypted) FROM users`)
	does("pause", "paused")
	if now := testenv.One[int64](t, db, `SELECT count(email_encrypted) FROM users`); now != rows {
		t.Errorf("%d rows were written after a pause was answered", now-rows)
	}
	does("resume", "running")
	testenv.Eventually(t, time.Minute, func() error {
		if testenv.One[int64](t, db, `SELECT count(email_encrypted) FROM users`) == rows {
			return errors.New("nothing was written since the resume")
		}
		return nil
	})
	does("cancel", "cancelled")
	s.run("job", "retry", job.ID, "--quarantined").refusedWith(t, app.CodeRefused, "no row of the job is in quarantine", "nothing to try again")
	_, reader := role(t, db, "reader", `GRANT USAGE ON SCHEMA cipherfleet TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %s`)
	if seen := newShell(t, reader).only(); seen.State != "cancelled" {
		t.Errorf("a reader sees %+v", seen)
	}
	newShell(t, reader).must("job", "show", job.ID, "--quarantined")
	actor := testenv.One[string](t, db, `SELECT session_user::text`)
	if got := testenv.Column[string](t, db, `SELECT event || ' by ' || actor FROM cipherfleet.events WHERE event LIKE 'job_%' ORDER BY id`); strings.Join(got, ", ") !=
		strings.ReplaceAll("job_paused by X, job_resumed by X, job_cancelled by X", "X", actor) {
		t.Errorf("the log says %v", got)
	}
}

// TestAnOrphanedJobIsUnderControl: whoever led was killed; the job is paused, resumed and cancelled all the same.
func TestAnOrphanedJobIsUnderControl(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 60_000)
	slowed(t, db)
	s := newShell(t, db.URL).withKey()
	p := s.start(append(backfillUsers(), "--chunk-rows", "100", "--user-triggers", "fire")...)
	underWay(t, db)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	job := s.only()
	testenv.Eventually(t, time.Minute, func() error { // until the server has noticed
		if o := s.run("job", "pause", job.ID); o.code != app.CodeDone {
			return errors.New(o.err)
		}
		return nil
	})
	if o := s.must("job", "resume", job.ID); !strings.Contains(o.out, " running: ") || !strings.Contains(o.err, "no coordinator leads") {
		t.Errorf("resume says %+v", o)
	}
	unchanged(t, db, func() {
		if o := s.must("job", "cancel", job.ID, "--dry-run"); !strings.Contains(o.err, "which is running, would be cancelled\nnothing was changed\n") {
			t.Errorf("a dry run says %q", o.err)
		}
	})
	if o := s.must("job", "cancel", job.ID); !strings.Contains(o.out, " cancelled: ") {
		t.Errorf("cancel says %+v", o)
	}
	db.Run(t, `DROP TRIGGER slow ON users`)
	s.must(backfillUsers()...)
	s.must("verify", "--table", "users")
}

// TestAFleetTriesAQuarantineAgain: the coordinator lets the job go on, and a person who has no key follows it.
func TestAFleetTriesAQuarantineAgain(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	stubborn(t, db)
	nats := testenv.NATS(t)
	s := newShell(t, db.URL).withKey().inNATS(nats)
	s.serve("--workers", "1")
	answers(t, s)
	person := newShell(t, db.URL).inNATS(nats)
	person.run(append(backfillUsers(), "--user-triggers", "fire")...).refusedWith(t, app.CodeUnproven, "2 rows are in quarantine", "cipherfleet job retry")
	db.Run(t, `DROP TRIGGER stubborn ON users`)
	job := parsed[messages.Job](t, person.must("job", "retry", person.only().ID, "--quarantined", "--json").out)
	if job.State != "done" || job.Rows != 90 || job.Quarantined != 0 {
		t.Errorf("tried again, the job is %+v", job)
	}
	s.must("verify", "--table", "users")
}
