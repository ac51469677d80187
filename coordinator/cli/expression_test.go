package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// mails makes public.users, of which an expression is to make something.
func mails(t testing.TB, db *testenv.DB, n int) {
	t.Helper()
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, dropped int, "E-mail" text, plan text, level int)`)
	db.Run(t, `ALTER TABLE users DROP COLUMN dropped`)
	db.Run(t, fmt.Sprintf(`INSERT INTO users SELECT i, ' User' || i || '@X.ORG ', CASE WHEN i %% 2 = 0 THEN 'pro' END, i FROM generate_series(1, %d) i`, n))
}

const lowered = `lower(btrim("E-mail")) -- as people write it`

// A column's whole life without any key: made, followed, verified, cut over, rolled back, cut over again and dropped.
func TestTheLifeOfAnExpression(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	mails(t, db, 3000)
	s := newShell(t, db.URL)
	backfill := []string{"backfill", "--table", "users", "--column", "E-mail", "--target", "norm", "--transform", "expression", "--expression", lowered, "--prepare"}
	o := s.must(append(backfill, "--dry-run")...)
	for _, want := range []string{`change public.users: lower(btrim("E-mail")) into norm (text)`, "add column norm text, nullable", "create four triggers that make norm with each write", "nothing was changed"} {
		if !strings.Contains(o.err, want) {
			t.Errorf("the dry run does not say %q:\n%s", want, o.err)
		}
	}
	s.must(backfill...)
	const wrong = `SELECT count(*) FROM users WHERE norm IS DISTINCT FROM lower(btrim("E-mail"))`
	if n := testenv.One[int](t, db, wrong); n != 0 {
		t.Errorf("%d rows have another value", n)
	}
	written := testenv.One[string](t, db, `SELECT sum(xmin::text::bigint)::text FROM users`)
	s.must("backfill", "--table", "users", "--column", "E-mail") // as the last job
	if testenv.One[string](t, db, `SELECT sum(xmin::text::bigint)::text FROM users`) != written {
		t.Error("the second run wrote rows")
	}
	db.Run(t, `UPDATE users SET "E-mail" = 'NEW' WHERE id = 7; INSERT INTO users (id, "E-mail", norm) VALUES (4000, 'More', 'wrong')`)
	if n := testenv.One[int](t, db, wrong); n != 0 {
		t.Errorf("%d rows have another value after writes", n)
	}
	column := parsed[status.Report](t, s.must("status", "--exact", "--json").out).Columns[0]
	if c := column.Coverage; c.Covered != 3001 || c.Uncovered != 0 || len(column.Flags) != 0 || column.Phase != "backfilled" {
		t.Errorf("status says %+v, flags %v", c, column.Flags)
	}
	if v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--json").out); !v.Proven || !v.Columns[0].Made || v.Columns[0].Covered != 3001 {
		t.Errorf("verify says %+v", v)
	}
	s.must("cutover", "users.E-mail", "--soak", "0s")
	if got := testenv.One[string](t, db, `SELECT concat_ws(' ', "E-mail", "E-mail_plaintext") FROM users WHERE id = 7`); got != "new NEW" {
		t.Errorf("after the cutover row 7 holds %q", got)
	}
	if flags := parsed[status.Report](t, s.must("status", "--exact", "--json").out).Columns[0].Flags; len(flags) != 0 {
		t.Errorf("after the cutover flags are %v", flags)
	}
	s.must("rollback", "users.E-mail")
	db.Run(t, `UPDATE users SET "E-mail" = 'AGAIN' WHERE id = 8`)
	if n := testenv.One[int](t, db, wrong); n != 0 {
		t.Errorf("%d rows have another value after the rollback", n)
	}
	s.must("verify", "--table", "users")
	s.must("cutover", "users.E-mail", "--soak", "0s")
	db.Run(t, `UPDATE users SET "E-mail" = 'written since' WHERE id = 9`)
	s.run("rollback", "users.E-mail").refusedWith(t, app.CodeRefused, "no expression makes", "write what they should hold")
	s.must("drop", "users.E-mail", "--apply")
	if got := columnsOf(t, db, "users"); strings.Contains(got, "plaintext") {
		t.Errorf("after the drop there is %s", got)
	}
}
