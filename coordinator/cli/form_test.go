package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestCellsAsTextLiveAWholeLife: a column whose cells are text, or jsonb, from plaintext through cutover, rollback and
// rotation to the end of its plaintext.
func TestCellsAsTextLiveAWholeLife(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"text", "jsonb"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 300)
			s := newShell(t, db.URL).withKey()
			emails := `SELECT string_agg(coalesce(email, '-'), ' ' ORDER BY id) FROM users`
			before := testenv.One[string](t, db, emails)
			command := append(backfillUsers(), "--type", form)
			if o := s.must(append(command, "--dry-run")...); !strings.Contains(o.err, "add column email_encrypted "+form+", nullable") {
				t.Errorf("would be done: %s", o.err)
			}
			s.must(command...)
			s.must(command...)
			flags := func(when string) {
				t.Helper()
				if c := s.column("--exact"); len(c.Flags) > 0 || len(c.Schemes) != 1 || c.Schemes[0].Rows != 270 || c.Coverage.Uncovered != 0 {
					t.Errorf("%s status says %+v", when, c)
				}
			}
			flags("after the backfill")
			s.must("verify", "--table", "users")
			s.must("cutover", "users.email", "--soak", "0")
			flags("after the cutover")
			s.must("rollback", "users.email", "--reason", "the story wants it")
			if testenv.One[string](t, db, emails) != before {
				t.Error("a value was lost")
			}
			sealed := testenv.One[string](t, db, `SELECT email_encrypted::text FROM users WHERE id = 1`)
			if _, err := db.Exec(t.Context(), `UPDATE users SET email = $1 WHERE id = 1`, sealed); err == nil {
				t.Error("a cell went into the plaintext")
			}
			s.must(command...)
			s.must("verify", "--table", "users")
			s.must("cutover", "users.email", "--soak", "0")
			anotherScheme(t, db, s, nil)
			s.must("rotate", "users.email")
			s.must("verify", "--table", "users")
			s.must("drop", "users.email", "--apply")
			anotherScheme(t, db, s, nil)
			s.must("rotate", "users.email")
			s.must("verify", "--table", "users")
			s.must("scheme", "retire", "users.email", "1")
			s.must("scheme", "retire", "users.email", "2")
			flags("after everything")
			if got := schemes(s); len(got) != 1 || got[3] != 270 {
				t.Errorf("cells are of %v", got)
			}
			if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE email::text LIKE '%cf1.9cE%'`); n != 270 {
				t.Errorf("%d cells are in their text form", n)
			}
		})
	}
}

func TestATargetOfAnotherTypeIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	db.Run(t, `ALTER TABLE users ADD email_encrypted varchar(200)`)
	s := newShell(t, db.URL).withKey()
	unchanged(t, db, func() {
		s.run(backfillUsers()...).refusedWith(t, app.CodeRefused, "accepted is bytea, text or jsonb", "--prepare")
		s.run(append(backfillUsers(), "--transform", "encrypt", "--type", "eql_v2_encrypted")...).refusedWith(t, app.CodeUsage, "cells go into bytea, text or jsonb", "--help")
	})
	db.Run(t, `ALTER TABLE users ALTER email_encrypted TYPE text`)
	unchanged(t, db, func() {
		s.run(append(backfillUsers(), "--type", "jsonb")...).refusedWith(t, app.CodeRefused, "has type text, not jsonb", "leave --type out")
	})
	db.Run(t, `UPDATE users SET email_encrypted = 'plaintext' WHERE id = 3`)
	unchanged(t, db, func() {
		s.run(backfillUsers()...).refusedWith(t, app.CodeRefused, "no cells of this column", "empty this one")
	})
}
