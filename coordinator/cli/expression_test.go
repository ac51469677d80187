package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_constraint WHERE conname ~ '^cipherfleet_.*_bare$'`); n != 0 {
		t.Errorf("%d constraints keep cells out of a column of which none was ever made", n)
	}
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

// In place, by a version, over partitions and a composite key; the manifest says what is wanted.
func TestAnExpressionInPlaceOfPartitions(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE TABLE "Calls" (tenant int, at date, nr int, gone int, phone text, form smallint, PRIMARY KEY (tenant, at, nr)) PARTITION BY RANGE (at);
CREATE TABLE old PARTITION OF "Calls" FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE late (form smallint, phone text, nr int NOT NULL, at date NOT NULL, gone int, tenant int NOT NULL);
ALTER TABLE "Calls" DROP COLUMN gone; ALTER TABLE late DROP COLUMN gone;
ALTER TABLE "Calls" ATTACH PARTITION late FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
INSERT INTO "Calls" SELECT i % 3, '2020-06-01'::date + i, i, '+41 ' || i, CASE WHEN i % 5 = 0 THEN 2 END FROM generate_series(1, 500) i`)
	s := newShell(t, db.URL)
	s.write("cipherfleet.yaml", `version: 1
tables:
  - table: Calls
    columns:
      - {source: phone, target: phone, transform: expression, expression: "phone || 'x'", done: {version: form, number: 2}}
`, 0o644)
	if o := s.run("plan"); o.code != app.CodeWaiting || !strings.Contains(o.out, "cipherfleet backfill --table Calls --column phone --target phone") {
		t.Errorf("plan says %s", o.out)
	}
	for range 2 {
		s.must("backfill", "--table", "Calls", "--column", "phone")
		if n := testenv.One[int](t, db, `SELECT count(*) FROM "Calls" WHERE form = 2 AND (phone ~ '^[+]41 [0-9]+x$') = (nr % 5 <> 0)`); n != 500 {
			t.Fatalf("%d rows are as they should be, want 500", n)
		}
	}
	db.Run(t, `UPDATE "Calls" SET phone = 'new' WHERE nr IN (7, 400)`)
	column := parsed[status.Report](t, s.must("status", "--exact", "--json").out).Columns[0]
	if column.Coverage.Uncovered != 2 || *column.Missed != 2 || fmt.Sprint(column.Flags) != "[uncovered]" {
		t.Errorf("status says %+v, %d missed, flags %v", column.Coverage, *column.Missed, column.Flags)
	}
	s.must("backfill", "--table", "Calls", "--column", "phone")
	if n := testenv.One[int](t, db, `SELECT count(*) FROM "Calls" WHERE phone = 'newx'`); n != 2 {
		t.Errorf("%d rows were made anew, want 2", n)
	}
	s.must("verify", "--table", "Calls")
	unchanged(t, db, func() {
		s.run("cutover", "--table", "Calls", "--column", "phone", "--soak", "0s").refusedWith(t, app.CodeRefused, "changed in place", "nothing is left to do")
		s.run("rollback", "--table", "Calls", "--column", "phone", "--drop-target").refusedWith(t, app.CodeRefused, "its target is the column itself", "leave it out")
	})
	s.must("rollback", "--table", "Calls", "--column", "phone")
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_trigger WHERE tgname ^@ '~cipherfleet_'`) + testenv.One[int](t, db, `SELECT count(*) FROM pg_proc WHERE proname ~ '_[0-9]+$' AND pronamespace = 'cipherfleet'::regnamespace`); n != 0 {
		t.Errorf("%d triggers and functions are left after the rollback", n)
	}
}

// Kill -9 in the middle: the same command goes on, and every row is written once.
func TestAnExpressionWhoseProcessIsKilled(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	mails(t, db, 20_000)
	db.Run(t, `CREATE TABLE written (id int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO written VALUES (NEW.id); PERFORM pg_sleep(CASE WHEN NEW.id % 50 = 0 THEN 0.05 ELSE 0 END); RETURN NULL; END';
CREATE TRIGGER note AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note()`)
	s := newShell(t, db.URL)
	backfill := []string{"backfill", "--table", "users", "--column", "plan", "--target", "copied", "--type", "varchar(10)", "--transform", "copy", "--prepare", "--user-triggers", "fire", "--chunk-rows", "100"}
	p := s.start(backfill...)
	testenv.Eventually(t, time.Minute, func() error {
		if n := testenv.One[int](t, db, `SELECT count(*) FROM written`); n == 0 {
			return errors.New("nothing was written yet")
		}
		return nil
	})
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	db.Run(t, `CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO written VALUES (NEW.id); RETURN NULL; END'`)
	s.must(backfill...)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE copied IS DISTINCT FROM plan`); n != 0 {
		t.Errorf("%d rows differ", n)
	}
	rows, distinct := testenv.One[int](t, db, `SELECT count(*) FROM written`), testenv.One[int](t, db, `SELECT count(DISTINCT id) FROM written`)
	if rows != distinct || rows != 10_000 {
		t.Errorf("%d rows were written, %d of them once; want 10000", rows, distinct)
	}
	if sum := testenv.One[int](t, db, `SELECT sum(rows_processed)::int FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); sum != rows {
		t.Errorf("checkpoints count %d rows, the table %d", sum, rows)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs`); n != 1 {
		t.Errorf("there were %d jobs: the second command did not go on", n)
	}
}

// Another expression under a job at work, or for a column that is encrypted, is refused; after the job it is the one that
// holds.
func TestAnotherExpression(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	mails(t, db, 300)
	s := newShell(t, db.URL).withKey()
	flags := func(expression string) []string {
		return []string{"backfill", "--table", "users", "--column", "plan", "--target", "made", "--transform", "expression", "--expression", expression, "--prepare"}
	}
	s.must(flags("upper(plan)")...)
	db.Run(t, `UPDATE cipherfleet.jobs SET state = 'paused'`)
	const holds = `SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname ^@ 'value_' AND pronamespace = 'cipherfleet'::regnamespace`
	s.run(flags("lower(plan)")...).refusedWith(t, app.CodeRefused, "another job over the same table has not ended", "")
	if text := testenv.One[string](t, db, holds); !strings.Contains(text, "upper(plan)") {
		t.Errorf("under the job stands %s", text)
	}
	unchanged(t, db, func() {
		s.run("backfill", "--table", "users", "--column", "plan", "--transform", "encrypt").refusedWith(t, app.CodeRefused, "made by an expression", "leave --transform out")
	})
	db.Run(t, `UPDATE cipherfleet.jobs SET state = 'done'`)
	s.must(flags("lower(plan)")...)
	db.Run(t, `UPDATE users SET plan = 'PRO' WHERE id = 1`)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE made IS DISTINCT FROM lower(plan)`); n != 0 {
		t.Errorf("%d rows have another value", n)
	}
	s.must("backfill", "--table", "users", "--column", "E-mail", "--prepare")
	s.run("backfill", "--table", "users", "--column", "E-mail", "--target", "other", "--transform", "copy", "--prepare").refusedWith(t, app.CodeRefused, "encrypted already", "rollback")
	s.must("verify", "--table", "users") // both, each in its own way
}

// Under its lock a cutover reads no row: what capture could not make since the verification is known by its count.
func TestACutoverKnowsWhatTheExpressionCouldNotMake(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE TABLE shares (id int PRIMARY KEY, total int NOT NULL DEFAULT 12, parts int); INSERT INTO shares SELECT i, i, 1 + i % 3 FROM generate_series(1, 500) i`)
	s := newShell(t, db.URL)
	s.must("backfill", "--table", "shares", "--column", "total", "--target", "each", "--transform", "expression", "--expression", "total / parts", "--prepare")
	s.must("verify", "--table", "shares")
	cutover := []string{"cutover", "shares.total", "--soak", "0s"}
	unchanged(t, db, func() {
		s.run(cutover...).refusedWith(t, app.CodeRefused, `"total" has a default, which "each" would not have`, "SET DEFAULT")
	})
	db.Run(t, `ALTER TABLE shares ALTER each SET DEFAULT 0`)
	unchanged(t, db, func() { s.run(cutover...).refusedWith(t, app.CodeRefused, `"total" is NOT NULL`, "SET NOT NULL") })
	db.Run(t, `ALTER TABLE shares ALTER each SET NOT NULL`)
	db.Run(t, `UPDATE shares SET parts = 0 WHERE id = 7`) // the application is not kept from it
	s.run(cutover...).refusedWith(t, app.CodeRefused, "the expression raised an error in 1 writes since", "cipherfleet verify")
	if o := s.run("verify", "--table", "shares"); o.code != app.CodeUnproven {
		t.Errorf("verify of a row that cannot be judged: exit code %d", o.code)
	}
	s.run("backfill", "--table", "shares", "--column", "total").refusedWith(t, app.CodeUnproven, "1 rows are in quarantine", "job show")
	db.Run(t, `UPDATE shares SET parts = 7 WHERE id = 7`)
	s.must("backfill", "--table", "shares", "--column", "total")
	s.must("verify", "--table", "shares")
	s.must(cutover...)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM shares WHERE total IS DISTINCT FROM total_plaintext / parts`); n != 0 {
		t.Errorf("%d rows have another value", n)
	}
}
