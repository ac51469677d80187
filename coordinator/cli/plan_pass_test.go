package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestPlanDoesATableInOnePass: one command for all its columns that are ready, and it does them all.
func TestPlanDoesATableInOnePass(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	db.Run(t, `ALTER TABLE users ADD phone text, ADD low text GENERATED ALWAYS AS (lower(note)) STORED, ADD later text`)
	s := newShell(t, db.URL).withKey()
	s.intent(usersTable("") + `  - {source: note, target: note_sealed, schemes: {1: {}}}
  - {source: phone, schemes: {1: {}}}
  - {source: low, schemes: {1: {}}}
  - {source: later, schemes: {1: {}}}
`)
	lines := func(code int) (list []string) {
		t.Helper()
		for _, c := range s.plan(code).Columns {
			steps := commands(c)
			list = append(list, steps[len(steps)-1])
		}
		return list
	}
	const all = "cipherfleet backfill --table users --column email --column note --column phone --column later --target email_encrypted --target note_sealed --prepare"
	const low = "cipherfleet backfill --table users --column low --prepare"
	equal(t, "at the beginning", lines(app.CodeRefused), []string{all, all, all, low, all})
	for _, column := range []string{"users.email", "users.note", "users.phone"} {
		s.must("advance", column, "--to", "dual-writing")
	}
	const ready = "cipherfleet backfill --table users --column email --column note --column phone --target email_encrypted --target note_sealed"
	const later = "cipherfleet backfill --table users --column later --prepare"
	equal(t, "with three that are ready", lines(app.CodeRefused), []string{ready, ready, ready, low, later})
	r := s.plan(app.CodeRefused)
	if with := r.Columns[1].Steps[0].With; !slices.Equal(with, []string{"email", "phone"}) {
		t.Errorf("with %v", with)
	}
	text := s.run("plan").out
	if strings.Count(text, ready) != 1 || strings.Count(text, "done by the command of public.users.email\n") != 2 {
		t.Errorf("a person reads\n%s", text)
	}
	s.must(strings.Fields(ready)[1:]...)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs WHERE jsonb_array_length(spec->'columns') = 3 AND state = 'done'`); n != 1 {
		t.Errorf("%d jobs did three columns", n)
	}
	for _, c := range s.plan(app.CodeRefused).Columns[:3] {
		if len(c.Steps) > 0 {
			t.Errorf("%s.%s has steps left: %v", c.Table, c.Column, commands(c))
		}
	}
}
