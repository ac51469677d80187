package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestBackfillMayLetWritesFailThatMissTheTarget(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 1000)
	s := newShell(t, db.URL).withKey()
	unchanged(t, db, func() {
		o := s.must("backfill", "--table", "users", "--column", "email", "--prepare", "--strict", "--dry-run")
		if !strings.Contains(o.err, "create two triggers that let writes fail which miss a target") {
			t.Errorf("a dry run said %q", o.err)
		}
	})
	s.must("backfill", "--table", "users", "--column", "email", "--prepare", "--strict")
	const missed = `UPDATE users SET email = 'missed@example.com' WHERE id = 1`
	_, err := db.Exec(t.Context(), missed)
	if pg.Code(err) != "23514" || !strings.Contains(err.Error(), "constraint cipherfleet_1_strict") {
		t.Errorf("a write that misses the target: %v", err)
	}
	db.Run(t, `UPDATE users SET email = NULL, email_encrypted = NULL WHERE id = 1`)
	unchanged(t, db, func() { s.must("backfill", "--table", "users", "--column", "email", "--strict", "--dry-run") })
	s.must("backfill", "--table", "users", "--column", "email", "--strict")
}

const captureSQL = `SELECT md5(string_agg(x, '|' ORDER BY x)) FROM (SELECT pg_get_functiondef(oid) x FROM pg_proc WHERE pronamespace = 'cipherfleet'::regnamespace
 UNION ALL SELECT concat_ws(' ', tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger WHERE tgname LIKE '~cipherfleet%') y`

// A capture of an older version has other triggers and another function; the next job brings it up to date.
func TestBackfillMakesACaptureAnewThatIsOlderOrWasAltered(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"missing": `DROP TRIGGER "~cipherfleet_1_insert" ON users`,
		"older": `DO $$ BEGIN EXECUTE replace(pg_get_functiondef('cipherfleet.capture_1()'::regprocedure), ' -- version 2', ''); END $$;
			CREATE TRIGGER "~cipherfleet_1_absent_insert" BEFORE INSERT ON users FOR EACH ROW WHEN (new.email_encrypted IS NULL AND new.email IS NOT NULL) EXECUTE FUNCTION cipherfleet.capture_1('counts')`,
		"altered":  `CREATE OR REPLACE FUNCTION cipherfleet.capture_1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`,
		"disabled": `ALTER TABLE users DISABLE TRIGGER "~cipherfleet_1_insert"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.EmptyDatabase(t)
			people(t, db, 100)
			s := newShell(t, db.URL).withKey()
			s.must("backfill", "--table", "users", "--column", "email", "--prepare")
			before := testenv.One[string](t, db, captureSQL)
			db.Run(t, harm)
			s.must("backfill", "--table", "users", "--column", "email")
			if testenv.One[string](t, db, captureSQL) != before {
				t.Error("the capture is not as it was installed")
			}
		})
	}
}

func TestAdvanceMayLetWritesFailThatMissTheTarget(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 10)
	s := newShell(t, db.URL).withKey()
	unchanged(t, db, func() {
		plan := s.must("advance", "users.email", "--to", "dual-writing", "--strict", "--dry-run").out
		if !strings.Contains(plan, `"~cipherfleet_<id>_strict_update"`) || strings.Contains(plan, "_0") {
			t.Errorf("a dry run said %s", plan)
		}
		s.run("advance", "users.email", "--to", "schema-added", "--strict").refusedWith(t, app.CodeUsage, "is about the step to dual-writing", "cipherfleet backfill --strict")
	})
	const missed = `INSERT INTO users (id, email) VALUES (99, 'missed@example.com')`
	s.must("advance", "users.email", "--to", "dual-writing")
	s.must("advance", "users.email", "--to", "dual-writing", "--strict") // also later
	if _, err := db.Exec(t.Context(), missed); pg.Code(err) != "23514" || !strings.Contains(err.Error(), "constraint cipherfleet_1_strict") {
		t.Errorf("a write that misses the target: %v", err)
	}
	unchanged(t, db, func() { s.must("advance", "users.email", "--to", "dual-writing", "--strict") })
}
