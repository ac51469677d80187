package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestCellsThatNobodyWatchesAreFlaggedAndCompared: a rollback leaves the cells, and takes capture away. The application
// changes values beside them, and nothing but their bytes tells.
func TestCellsThatNobodyWatchesAreFlaggedAndCompared(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	flags := func(where string, want ...string) {
		t.Helper()
		if c := s.column(); !slices.Equal(c.Flags, want) {
			t.Errorf("%s: flags %v, want %v", where, c.Flags, want)
		}
	}
	s.must("rollback", "users.email")
	flags("rolled back", status.FlagUnwatched)
	if o := s.run("plan"); !strings.Contains(o.out, "unwatched") {
		t.Errorf("the plan does not say it: %s", o.out)
	}
	db.Run(t, `UPDATE users SET email = 'unseen@example.org' WHERE id IN (3, 50)`)
	s.must("advance", "users.email", "--to", "dual-writing")
	flags("watched again", status.FlagUnwatched)
	const versions = `SELECT string_agg(xmin::text, ' ' ORDER BY id) FROM users WHERE id NOT IN (3, 50)`
	before := testenv.One[string](t, db, versions)
	s.must(backfillUsers()...)
	flags("compared")
	if testenv.One[string](t, db, versions) != before {
		t.Error("rows were written whose cells were right")
	}
	s.must("verify", "--table", "users")
	if n := testenv.One[int](t, db, `SELECT sum(rows_processed)::int FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND job_id = (SELECT id FROM cipherfleet.jobs ORDER BY created_at DESC LIMIT 1)`); n != 2 {
		t.Errorf("%d rows were written, want the two that were stale", n)
	}
	s.must("cutover", "users.email", "--soak", "0")
	s.must("rollback", "users.email")
	flags("a cutover taken back", status.FlagUnwatched)
	s.must("verify", "--table", "users")
	flags("and verified")
}

// TestWhatAVerificationFindsIsMendedByABackfill: cells went stale while somebody had capture disabled, and the log holds
// nothing but the verification.
func TestWhatAVerificationFindsIsMendedByABackfill(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	db.Run(t, uncaught(`UPDATE users SET email = 'unseen@example.org' WHERE id IN (3, 50); UPDATE users SET email_encrypted = (SELECT email_encrypted FROM users WHERE id = 7) WHERE id = 8`))
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven {
		t.Fatalf("verify ended with %d: %s", o.code, o.err)
	}
	s.must(backfillUsers()...)
	if n := testenv.One[int](t, db, `SELECT sum(rows_processed)::int FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND job_id = (SELECT id FROM cipherfleet.jobs ORDER BY created_at DESC LIMIT 1)`); n != 3 {
		t.Errorf("%d rows were written, want the three that were wrong", n)
	}
	s.must("verify", "--table", "users")
	if c := s.column(); len(c.Flags) > 0 {
		t.Errorf("flags %v", c.Flags)
	}
}

// TestATargetThatGoesTakesItsCellsWithIt: nothing is left to compare.
func TestATargetThatGoesTakesItsCellsWithIt(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	s.must("rollback", "users.email", "--drop-target")
	if c := s.column(); slices.Contains(c.Flags, status.FlagUnwatched) {
		t.Errorf("flags %v", c.Flags)
	}
	s.must(backfillUsers()...)
	if testenv.One[bool](t, db, `SELECT bool_or(spec->'columns'->0 ? 'compare') FROM cipherfleet.jobs`) {
		t.Error("a job compares cells of a column that was dropped with them")
	}
}

// TestCaptureThatWasAwayIsPutBackByAJobThatCompares, whatever took it away; also under a job that had not ended.
func TestCaptureThatWasAwayIsPutBackByAJobThatCompares(t *testing.T) {
	t.Parallel()
	for name, paused := range map[string]bool{"a job that is done": false, "a job that is paused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db := backfilled(t)
			if paused {
				s.reopen(db)
			}
			db.Run(t, dropCapture+`UPDATE users SET email = 'unseen@example.org' WHERE id IN (3, 50)`)
			s.must(backfillUsers()...)
			if c := s.column(); len(c.Flags) > 0 || c.Phase != lifecycle.PhaseBackfilled {
				t.Errorf("%+v", c)
			}
			s.must("verify", "--table", "users")
		})
	}
}

// reopen makes the last job one that is paused before its first sweep.
func (s *shell) reopen(db *testenv.DB) {
	s.t.Helper()
	db.Run(s.t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase, job_id) SELECT 'public.users', 'email', kind, 'backfilling', id FROM cipherfleet.jobs, unnest(ARRAY['backfill_started', 'job_paused']) AS kind;
UPDATE cipherfleet.jobs SET state = 'paused'; UPDATE cipherfleet.ranges SET state = 'pending', cursor_key = NULL WHERE pass = 0`)
}
