package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// kindsOf are the events of users.email in their order, without checkpoints.
func kindsOf(t *testing.T, db *testenv.DB) string {
	t.Helper()
	return testenv.One[string](t, db, `SELECT coalesce(string_agg(event, ' ' ORDER BY id), '') FROM cipherfleet.events WHERE column_name = 'email' AND event <> 'backfill_checkpoint'`)
}

func TestAdvanceRefuses(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 5)
	db.Run(t, `ALTER TABLE users ADD small varchar(9)`)
	s := newShell(t, db.URL).withKey()
	unchanged(t, db, func() {
		s.run("advance", "users.email", "--to", "finished").refusedWith(t, app.CodeUsage, `--to was "finished"`, "cipherfleet advance --help")
		s.run("advance", "users.email").refusedWith(t, app.CodeUsage, "--to is missing", "cipherfleet advance --help")
		s.run("advance", "users.phone", "--to", "schema-added").refusedWith(t, app.CodeRefused, `has no column "phone"`, "")
		s.run("advance", "user.email", "--to", "schema-added").refusedWith(t, app.CodeRefused, "user", "did you mean")
		s.run("advance", "users.id", "--to", "schema-added").refusedWith(t, app.CodeRefused, "is part of the key", "key")
		s.run("advance", "users.email", "--to", "schema-added", "--target", "small").refusedWith(t, app.CodeRefused, `target "small" has type character varying(9)`, "name another target")
	})
	s.must("advance", "users.email", "--to", "dual-writing", "--target", "sealed")
	unchanged(t, db, func() {
		s.run("advance", "users.email", "--to", "schema-added").refusedWith(t, app.CodeRefused, "back to schema-added is against the order", "--reason")
		s.run("advance", "users.sealed", "--to", "schema-added").refusedWith(t, app.CodeRefused, `column "sealed" holds cells already`, "name the plaintext column")
		s.run("advance", "users.email", "--to", "backfilling", "--user-triggers", "maybe").refusedWith(t, app.CodeUsage, "user_triggers", "")
	})
	db.Run(t, `INSERT INTO cipherfleet.jobs (relid, spec, state) VALUES ('users'::regclass, '{}', 'running')`)
	unchanged(t, db, func() {
		s.run("advance", "users.email", "--to", "schema-added", "--reason", "again").refusedWith(t, app.CodeRefused, "a job over public.users has not ended", "job ls")
	})
}

// TestAPhaseSetByHandIsRecordedAsSuch: backwards, and forwards without a run; what rests on a proof asks for it.
func TestAPhaseSetByHandIsRecordedAsSuch(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 5)
	s := newShell(t, db.URL).withKey()
	s.must("advance", "users.email", "--to", "backfilled", "--reason", "another tool encrypted it")
	if have := kindsOf(t, db); have != "schema_added dual_writing advanced" || phaseOf(t, db) != string(lifecycle.PhaseBackfilled) {
		t.Errorf("recorded: %s, and it is %s", have, phaseOf(t, db))
	}
	unchanged(t, db, func() {
		s.run("cutover", "users.email", "--soak", "0").refusedWith(t, app.CodeRefused, "was not verified since", "cipherfleet verify")
	})
	before := columnsOf(t, db, "users")
	plan := parsed[ladder.AdvancePlan](t, s.must("advance", "users.email", "--to", "dual-writing", "--reason", "a restore", "--json").out)
	if plan.Way != ladder.WayRecord || plan.From != lifecycle.PhaseBackfilled || phaseOf(t, db) != string(lifecycle.PhaseDualWriting) || columnsOf(t, db, "users") != before {
		t.Errorf("%+v, and it is %s", plan, phaseOf(t, db))
	}
	if reason := testenv.One[string](t, db, `SELECT details ->> 'reason' FROM cipherfleet.events ORDER BY id DESC LIMIT 1`); reason != "a restore" {
		t.Errorf("the reason is %q", reason)
	}
}

// TestAdvancePutsBackWhatIsMissing: a phase is a promise about the table.
func TestAdvancePutsBackWhatIsMissing(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 5)
	s := newShell(t, db.URL).withKey()
	s.must("advance", "users.email", "--to", "dual-writing")
	db.Run(t, `DROP TRIGGER "~cipherfleet_1_update" ON users; ALTER TABLE users DROP CONSTRAINT cipherfleet_1_cell`)
	s.must("advance", "users.email", "--to", "dual-writing")
	if n := testenv.One[int](t, db, `SELECT (SELECT count(*) FROM pg_trigger WHERE tgname = '~cipherfleet_1_update') + (SELECT count(*) FROM pg_constraint WHERE conname = 'cipherfleet_1_cell' AND convalidated)`); n != 2 {
		t.Errorf("%d of two are back", n)
	}
	if have := kindsOf(t, db); have != "schema_added dual_writing dual_writing" {
		t.Errorf("recorded: %s", have)
	}
}

// TestTwoAdvanceAtOnce: one of them climbs, the other says that somebody else did, or finds it done.
func TestTwoAdvanceAtOnce(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 5)
	s := newShell(t, db.URL).withKey()
	outcomes := make(chan outcome, 2)
	for range 2 {
		go func() { outcomes <- s.run("advance", "users.email", "--to", "schema-added") }()
	}
	done := 0
	for range 2 {
		o := <-outcomes
		if o.code == app.CodeDone {
			done++
		} else if o.code != app.CodeRefused || !strings.Contains(o.err, "somebody else moved it") {
			t.Errorf("exit code %d: %s", o.code, o.err)
		}
	}
	if have := kindsOf(t, db); done == 0 || have != "schema_added" {
		t.Errorf("%d came through, recorded: %s", done, have)
	}
}
