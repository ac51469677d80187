package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// limitedUsers is a manifest's table of users with a condition; "" has none.
func limitedUsers(where string) string {
	text := "- table: users\n"
	if where != "" {
		text += "  where: '" + strings.ReplaceAll(where, "'", "''") + "'\n"
	}
	return text + "  columns:\n  - {source: email, schemes: {1: {padding: 16}}}\n"
}

// refusedConditions are conditions that cannot be heeded, and what is said of each, of a column that has its target.
var refusedConditions = map[string]string{
	"syntax":                "id >",
	"no column":             "nosuch = 1",
	"upper case":            `"Note" = 'n'`,
	"another table":         "orders.id = 1",
	"the clock":             "now() > '2020-01-01'",
	"chance":                "random() < 0.5",
	"a setting":             "current_setting('x') = 'y'",
	"the time zone":         "note::timestamptz > '2020-01-01'",
	"a subquery":            "id = (SELECT 7)",
	"an aggregate":          "count(*) > 1",
	"no boolean":            "id",
	"two values":            "id = 7, true",
	"the target":            "email_encrypted IS NULL",
	"a parameter":           "id = $1",
	"a psql variable":       "id = :x",
	"a system column":       "ctid IS NOT NULL",
	"the whole row":         "cipherfleet_row IS NOT NULL",
	"a statement":           "id = 7; DROP TABLE users",
	"a bracket":             "id = 7) OR (true",
	"another constraint":    "id = 7) IS TRUE), ADD CHECK ((true",
	"an open comment":       "id = 7 /* AND note = 'n'",
	"an open quote":         "note = 'n",
	"an open name":          `"note = 'n'`,
	"an open dollar quote":  "note = $x$n",
	"nothing but a comment": "-- id = 7",
	"spaces":                "  ",
	"no function":           "eu(id)",
	"no type":               "id = 7::euro",
	"the copy":              "id > 'cipherfleet_row'::regclass::oid::bigint",
	"a row of the copy":     "(NULL::pg_temp.cipherfleet_row) IS NULL",
	"a function of ours":    "cipherfleet.within_1(id)",
}

// What backfill refuses a condition for, plan says in the same words, before a column is prepared and after; and a
// refused condition is never that of the job.
func TestPlanRefusesAConditionAsBackfillDoes(t *testing.T) {
	t.Parallel()
	for name, where := range refusedConditions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 20)
			s := newShell(t, db.URL).withKey()
			s.intent(limitedUsers(where))
			check := func() {
				t.Helper()
				var r roadmap.Roadmap
				unchanged(t, db, func() { r = s.plan(app.CodeRefused) })
				if c := r.Columns[0]; len(c.Blockers) != 1 || c.Blockers[0].Hint == "" {
					t.Fatalf("%+v", c.Blockers)
				}
				said := strings.TrimPrefix(r.Columns[0].Blockers[0].Message, "where ")
				if o := s.run(append(backfillUsers(), "--dry-run")...); o.code != app.CodeRefused && o.code != app.CodeUsage || !strings.Contains(o.err, said) {
					t.Errorf("plan says %q, backfill says %s", said, o.err)
				}
				if o := s.run(append(backfillUsers(), "--dry-run", "--where", where)...); o.code != app.CodeRefused && o.code != app.CodeUsage || !strings.Contains(o.err, said) {
					t.Errorf("plan says %q, backfill --where says %s", said, o.err)
				}
			}
			if name != "the target" { // it is not there yet
				check()
			}
			s.intent(limitedUsers("id > 5"))
			s.must(backfillUsers()...)
			s.intent(limitedUsers(where))
			check()
			if c := s.column(); !slices.Equal(c.Flags, []string{status.FlagWhereDiffers}) || *c.Where != "(id > 5)" {
				t.Errorf("status has flags %v, where %q", c.Flags, *c.Where)
			}
		})
	}
}

// A manifest's condition is another one if Postgres prints it otherwise, whatever its text is; then a backfill is the next step.
func TestPlanSeesThatTheConditionIsAnother(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100) // every tenth e-mail is NULL
	s := newShell(t, db.URL).withKey()
	s.intent(limitedUsers("id < 4"))
	s.must(backfillUsers()...)
	for _, text := range []string{"id < 4", "id<4 -- some", "(id < 4)", "\"id\" /* or so */ < 4"} {
		s.intent(limitedUsers(text))
		if r := s.plan(app.CodeDone); len(r.Columns[0].Steps) > 0 || len(s.column().Flags) > 0 {
			t.Errorf("%s: %+v, flags %v", text, r.Columns[0].Steps, s.column().Flags)
		}
	}
	for _, change := range []struct {
		text, is, was string
		rows          int64
		where         string // of status after it
	}{
		{"id < 5", "of the rows for which (id < 5) (until now those for which (id < 4))", "no longer those for which (id < 4)", 1, "(id < 5)"},
		{"", "of every row (until now those for which (id < 5))", "every row, no longer those for which (id < 5)", 86, ""},
		{"id < 50 AND note = 'n'", "of the rows for which ((id < 50) AND (note = 'n'::text)) (until now every row)", "no longer every row", 0, "((id < 50) AND (note = 'n'::text))"},
		{"true", "of every row (until now those for which ((id < 50) AND (note = 'n'::text)))", "every row, no longer those", 0, ""},
	} {
		s.intent(limitedUsers(change.text))
		var r roadmap.Roadmap
		unchanged(t, db, func() { r = s.plan(app.CodeWaiting) })
		c := r.Columns[0]
		if len(c.Steps) != 1 || !strings.Contains(c.Steps[0].Does, change.is) || !strings.HasSuffix(c.Steps[0].Does, ", and what is covered by a cell of another value") || c.Steps[0].Command != "cipherfleet backfill --table users --column email" || c.Cost.Rows != change.rows {
			t.Fatalf("%s: %+v, %+v", change.text, c.Steps, c.Cost)
		}
		if flags := s.column().Flags; !slices.Equal(flags, []string{status.FlagWhereDiffers}) || !slices.Equal(flags, c.Flags) {
			t.Errorf("%s: status has flags %v, plan %v", change.text, flags, c.Flags)
		}
		dry := s.must(append(backfillUsers(), "--dry-run")...)
		if !strings.Contains(dry.err, change.was) || !strings.Contains(dry.err, "are compared with their sources") || strings.Contains(dry.err, "CHECK") {
			t.Errorf("%s: %s", change.text, dry.err)
		}
		s.must(backfillUsers()...)
		s.plan(app.CodeDone)
		now := s.column("--exact")
		where := ""
		if now.Where != nil {
			where = *now.Where
		}
		if len(now.Flags) > 0 || now.Coverage.Uncovered > 0 || where != change.where {
			t.Errorf("%s: %+v, where %q, flags %v", change.text, now.Coverage, where, now.Flags)
		}
		s.must("verify", "--table", "users")
	}
}

// A text that is as the job's was means something else once its column is another.
func TestPlanReadsAConditionAnewWhoseColumnIsAnother(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	s := newShell(t, db.URL).withKey()
	s.intent(limitedUsers("note = 'n'"))
	s.must(backfillUsers()...)
	db.Run(t, `ALTER TABLE users RENAME note TO remark; ALTER TABLE users ADD note text`)
	if r := s.plan(app.CodeWaiting); !slices.Contains(r.Columns[0].Flags, status.FlagWhereDiffers) || len(r.Columns[0].Steps) != 1 {
		t.Errorf("%+v", r.Columns[0])
	}
	db.Run(t, `ALTER TABLE users DROP note`)
	if r := s.plan(app.CodeRefused); len(r.Columns[0].Blockers) != 1 || !strings.Contains(r.Columns[0].Blockers[0].Message, "42703") {
		t.Errorf("%+v", r.Columns[0])
	}
}

// Who may not have a condition read is told so by plan, and status goes on without the flag; neither is needed for the
// text that the job had.
func TestPlanOfAConditionWithoutItsRights(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	owner := newShell(t, db.URL).withKey()
	owner.intent(limitedUsers("id > 5"))
	owner.must(backfillUsers()...)
	name := testenv.One[string](t, db, `SELECT current_database()::text`)
	_, at := role(t, db, "plans", `GRANT USAGE ON SCHEMA cipherfleet, public TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %s`, `GRANT SELECT ON users TO %s`)
	_, poor := role(t, db, "plans_poorly", `GRANT USAGE ON SCHEMA cipherfleet, public TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %s`, `GRANT SELECT (id, email, email_encrypted) ON users TO %s`)
	db.Run(t, `REVOKE TEMPORARY ON DATABASE "`+name+`" FROM PUBLIC`)
	s, p := newShell(t, at).withKey(), newShell(t, poor).withKey()
	s.intent(limitedUsers("id > 5"))
	s.plan(app.CodeDone)
	for _, other := range []struct {
		*shell
		says string
	}{{s, "GRANT TEMPORARY ON DATABASE"}, {p, "GRANT SELECT ON TABLE"}} {
		other.intent(limitedUsers("id > 6"))
		if r := other.plan(app.CodeRefused); len(r.Columns[0].Blockers) != 1 || !strings.HasPrefix(r.Columns[0].Blockers[0].Hint, other.says) {
			t.Errorf("%+v", r.Columns[0].Blockers)
		}
		if c := other.column(); len(c.Flags) > 0 {
			t.Errorf("flags %v", c.Flags)
		}
	}
}

// A job that has not ended keeps its condition: plan says who stands in the way of another one.
func TestPlanOfAnotherConditionThanThatOfAJobAtWork(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20)
	s := newShell(t, db.URL).withKey()
	s.intent(limitedUsers("id > 5"))
	s.must(backfillUsers()...)
	db.Run(t, `UPDATE cipherfleet.jobs SET state = 'paused'`)
	s.intent(limitedUsers("id > 6"))
	r := s.plan(app.CodeRefused)
	if c := r.Columns[0]; len(c.Blockers) != 1 || c.Blockers[0].Kind != "job" || !strings.Contains(c.Blockers[0].Hint, "cipherfleet job cancel ") {
		t.Errorf("%+v", c.Blockers)
	}
	if o := s.run(backfillUsers()...); o.code != app.CodeRefused || !strings.Contains(o.err, "another job over the same table has not ended") {
		t.Errorf("%+v", o)
	}
	s.intent(limitedUsers("(id>5)")) // the same, written otherwise: the job goes on
	s.must(backfillUsers()...)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs`); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

// Two columns of a table are one pass, one UPDATE for each row, also where a condition says which rows; and each column
// has its own cell to lose.
func TestAConditionOfTwoColumns(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, tenant int, email text, phone text)`)
	db.Run(t, `INSERT INTO users SELECT i, i % 4, CASE WHEN i % 3 > 0 THEN 'e' || i END, CASE WHEN i % 5 > 0 THEN 'p' || i END FROM generate_series(1, 1200) i`)
	db.Run(t, `CREATE TABLE written (n bigint); CREATE FUNCTION count_updates() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO written SELECT count(*) FROM changed; RETURN NULL; END';
CREATE TRIGGER audit AFTER UPDATE ON users REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_updates()`)
	s := newShell(t, db.URL).withKey()
	manifest := func(where string) string {
		return "- table: users\n  where: " + where + "\n  columns:\n  - {source: email, schemes: {1: {}}}\n  - {source: phone, schemes: {1: {}}}\nfleet: {user_triggers: fire}\n"
	}
	s.intent(manifest("tenant = 1 OR phone = 'in'"))
	both := []string{"backfill", "--table", "users", "--column", "email", "--column", "phone", "--prepare", "--user-triggers", "fire"}
	s.must(both...)
	const wrong = `SELECT count(*) FROM users WHERE (tenant = 1 OR phone = 'in') IS TRUE AND ((email IS NULL) <> (email_encrypted IS NULL) OR (phone IS NULL) <> (phone_encrypted IS NULL))
 OR (tenant = 1 OR phone = 'in') IS NOT TRUE AND (email_encrypted IS NOT NULL OR phone_encrypted IS NOT NULL)`
	if n := testenv.One[int](t, db, wrong); n != 0 {
		t.Errorf("%d rows are wrong", n)
	}
	rows := testenv.One[int64](t, db, `SELECT count(*) FROM users WHERE tenant = 1 AND (email IS NOT NULL OR phone IS NOT NULL)`)
	if n := testenv.One[int64](t, db, `SELECT sum(n) FROM written`); n != rows {
		t.Errorf("%d rows were updated for %d", n, rows)
	}
	s.must("verify", "--table", "users")
	db.Run(t, `TRUNCATE written; UPDATE users SET phone = 'in' WHERE id IN (2, 3, 6); UPDATE users SET email = 'other' WHERE id = 1; UPDATE users SET tenant = 0 WHERE id = 13`)
	for _, c := range parsed[status.Report](t, s.must("status", "--exact", "--json").out).Columns {
		want := map[string]int64{"email": 2, "phone": 3}[c.Column] // two of those that came in have an e-mail, one lost its cell
		if c.Column == "email" {
			want = testenv.One[int64](t, db, `SELECT count(*) FROM users WHERE id IN (1, 2, 3, 6) AND email IS NOT NULL`)
		}
		if c.Coverage.Uncovered != want || *c.Missed != want || !slices.Equal(c.Flags, []string{status.FlagUncovered}) {
			t.Errorf("%s: %+v, %d missed, flags %v; want %d", c.Column, c.Coverage, *c.Missed, c.Flags, want)
		}
	}
	db.Run(t, `TRUNCATE written`)
	s.must(both...)
	if n := testenv.One[int64](t, db, `SELECT sum(n) FROM written`); n != 4 {
		t.Errorf("%d rows were updated", n)
	}
	if v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--json").out); !v.Proven || len(v.Columns) != 2 || v.Columns[0].Where == "" || v.Columns[1].Where != v.Columns[0].Where {
		t.Errorf("%+v", v)
	}
	s.intent(manifest("tenant IN (1, 2)"))
	r := s.plan(app.CodeWaiting)
	if c := r.Columns; c[0].Steps[0].Command != c[1].Steps[0].Command || !strings.Contains(c[0].Steps[0].Command, "--column phone") {
		t.Errorf("%+v", c)
	}
	s.must(both...)
	s.plan(app.CodeDone)
	s.must("verify", "--table", "users")
}
