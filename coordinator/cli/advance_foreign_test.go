package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const foreignTable = "- table: users\n  columns:\n  - {source: email, type: jsonb, transform: external, external: {subject: crypto.users, key: users/email}}\n"

// TestTheRungsOfAnEncryptersColumnAreClimbedOneByOne, as the plan says, without a key, and end in its backfill.
func TestTheRungsOfAnEncryptersColumnAreClimbedOneByOne(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s, server := fleet(t, db)
	ownEncrypter(t, server, eqlAnswer)
	s.intent(foreignTable)
	const schema, dual = "cipherfleet advance users.email --to schema-added", "cipherfleet advance users.email --to dual-writing"
	const fill = "cipherfleet backfill --table users --column email"
	equal(t, "steps", commands(s.plan(app.CodeWaiting).Columns[0]), []string{schema, dual, fill + " --prepare"})
	keyless := s.with("CIPHERFLEET_KEK", "file:"+s.path("none.json"))
	keyless.must("advance", "users.email", "--to", "schema-added")
	equal(t, "steps of what is added", commands(s.plan(app.CodeWaiting).Columns[0]), []string{dual, fill})
	if kind := testenv.One[string](t, db, `SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'email_encrypted'`); kind != "jsonb" {
		t.Errorf("the target has type %s", kind)
	}
	keyless.must("advance", "users.email", "--to", "dual-writing")
	equal(t, "steps of what is written twice", commands(s.plan(app.CodeWaiting).Columns[0]), []string{fill})
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.schemes`); n != 0 {
		t.Errorf("%d schemes were made for nothing", n)
	}
	for range 2 { // with the manifest, and without
		if c := s.column(); len(c.Flags) > 0 || c.Phase != lifecycle.PhaseDualWriting {
			t.Errorf("%+v", c)
		}
		_ = os.Remove(s.path("cipherfleet.yaml"))
	}
	s.run(backfillUsers()...).refusedWith(t, app.CodeRefused, `column "email" was prepared for what an encrypter of your own makes, not for cells`, "cipherfleet rollback")
	s.intent(foreignTable)
	s.must("advance", "users.email", "--to", "backfilled")
	if c := s.column(); len(c.Flags) > 0 || c.Phase != lifecycle.PhaseBackfilled || c.Coverage.Covered != 100 {
		t.Errorf("%+v", c)
	}
}

// TestAColumnThatWasPreparedForCellsTakesNothingElse.
func TestAColumnThatWasPreparedForCellsTakesNothingElse(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s, _ := fleet(t, db)
	s.intent(usersTable(", type: jsonb"))
	s.must("advance", "users.email", "--to", "schema-added")
	s.intent(foreignTable)
	s.run("advance", "users.email", "--to", "dual-writing").refusedWith(t, app.CodeRefused, `column "email" was prepared for cells, not for what an encrypter`, "cipherfleet rollback")
	s.must("rollback", "users.email")
	s.must("advance", "users.email", "--to", "dual-writing")
}

// TestWhatAnEncrypterMadeIsNotTakenForRightAfterAnUnwatchedTime: nobody here can compare it.
func TestWhatAnEncrypterMadeIsNotTakenForRightAfterAnUnwatchedTime(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s, server := fleet(t, db)
	ownEncrypter(t, server, eqlAnswer)
	s.intent(foreignTable)
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	s.must("rollback", "users.email")
	if c := s.column(); !slices.Equal(c.Flags, []string{status.FlagUnwatched}) {
		t.Errorf("flags %v", c.Flags)
	}
	s.run("backfill", "--table", "users", "--column", "email").refusedWith(t, app.CodeRefused, `values of "email" could change unnoticed`, "cipherfleet rollback users.email --drop-target")
	if out := s.run("plan").out; !strings.Contains(out, "could change unnoticed") {
		t.Errorf("the plan says %s", out)
	}
	s.must("rollback", "users.email", "--drop-target")
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	if c := s.column(); len(c.Flags) > 0 || c.Coverage.Covered != 100 {
		t.Errorf("%+v", c)
	}
}
