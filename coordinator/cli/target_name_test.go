package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestAColumnOfTheLongestNameIsToldOfTarget: with _encrypted behind it the name is too long.
func TestAColumnOfTheLongestNameIsToldOfTarget(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	long := strings.Repeat("n", 63)
	people(t, db, 10)
	db.Run(t, `ALTER TABLE users ADD `+long+` text`)
	s := newShell(t, db.URL).withKey()
	unchanged(t, db, func() {
		for _, command := range [][]string{{"backfill", "--table", "users", "--column", long, "--prepare"}, {"init", "--table", "users", "--column", long},
			{"advance", "users." + long, "--to", "schema-added"}, {"advance", "users." + long, "--to", "backfilled"}} {
			s.run(command...).refusedWith(t, app.CodeUsage, "63 bytes", "--target")
		}
	})
	s.must("backfill", "--table", "users", "--column", long, "--target", "sealed", "--prepare")
}

// TestNobodyMissesATargetThatARollbackDropped, unless the manifest wants it; then the plan leads to it again.
func TestNobodyMissesATargetThatARollbackDropped(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	s.must("rollback", "users.email", "--drop-target")
	if c := s.column(); len(c.Flags) != 1 || c.Flags[0] != status.FlagTargetMissing {
		t.Errorf("the manifest wants it: %v", c.Flags)
	}
	s.intent(usersTable(", reach: schema-added"))
	equal(t, "steps", commands(s.plan(app.CodeWaiting).Columns[0]), []string{"cipherfleet advance users.email --to schema-added"})
	s.intent("- table: users\n  columns:\n  - {source: note, schemes: {1: {}}}\n")
	if c := parsed[status.Report](t, s.must("status", "--json").out).Columns[0]; c.Column != "email" || len(c.Flags) > 0 {
		t.Errorf("nobody wants it: %s, %v", c.Column, c.Flags)
	}
	s.intent(usersTable(", reach: schema-added"))
	s.must("advance", "users.email", "--to", "schema-added")
	if c := s.column(); len(c.Flags) > 0 {
		t.Errorf("it is there again: %v", c.Flags)
	}
	s.plan(app.CodeDone)
	db.Run(t, `ALTER TABLE users DROP email_encrypted`)
	if c := s.column(); len(c.Flags) != 1 || c.Flags[0] != status.FlagTargetMissing {
		t.Errorf("it is gone again: %v", c.Flags)
	}
}
