package ddl_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// made is a table whose column an expression makes.
func made(t *testing.T, table, target string, e ddl.Expression) fixture {
	t.Helper()
	c := ddl.Column{ID: 7, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: target, Key: []string{"id"}, Expression: &e}
	f := fixture{testenv.Database(t), c}
	f.Run(t, table)
	f.do(t, c.Capture().Do)
	return f
}

func lowered() ddl.Expression {
	return ddl.Expression{SQL: "lower(email)", Inputs: []ddl.Input{{Name: "email"}}, Type: "text"}
}

const usersWithNorm = "CREATE TABLE users (id bigint PRIMARY KEY, email text, norm text, note text)"

func TestCaptureMakesTheValueItself(t *testing.T) {
	t.Parallel()
	f := made(t, usersWithNorm, "norm", lowered())
	want := func(norm, after string) {
		t.Helper()
		if got := testenv.One[string](t, f, "SELECT coalesce(norm, 'NULL') FROM users"); got != norm {
			t.Errorf("after %s the target is %s, want %s", after, got, norm)
		}
	}
	for _, writer := range []string{"", ddl.WriterClient} {
		f.Run(t, "TRUNCATE users")
		f.write(t, writer, "INSERT INTO users VALUES (1, 'ALICE', 'wrong')")
		want("alice", "an insert with another value")
		f.write(t, writer, "UPDATE users SET email = 'BOB'")
		want("bob", "a write to the source")
		f.write(t, writer, "UPDATE users SET norm = 'wrong'")
		want("bob", "a write to the target")
		f.write(t, writer, "UPDATE users SET email = NULL")
		want("NULL", "NULL in the source")
	}
	f.write(t, ddl.WriterFleet, "UPDATE users SET norm = 'x'")
	want("x", "a write of the fleet, which made the value itself")
	f.write(t, ddl.WriterFleet, "UPDATE users SET email = 'CAROL', norm = 'x'")
	want("carol", "a write of the fleet beneath which another trigger changed the source")
	if n := f.missed(t); n != 0 {
		t.Errorf("missed = %d, want 0", n)
	}
}

// An expression that raises fails no write: the row is undone, and counted.
func TestCaptureFailsNoWrite(t *testing.T) {
	t.Parallel()
	e := ddl.Expression{SQL: "(1 / (email)::integer)", Inputs: []ddl.Input{{Name: "email"}}, Type: "integer"}
	f := made(t, "CREATE TABLE users (id bigint PRIMARY KEY, email text, norm int, note text)", "norm", e)
	role := f.role(t)
	f.Run(t, "SET ROLE "+role+"; INSERT INTO users VALUES (1, '1'); UPDATE users SET email = '0'; UPDATE users SET note = 'n'; UPDATE users SET email = 'x'; UPDATE users SET email = '-1'; RESET ROLE")
	if n := f.missed(t); n != 2 {
		t.Errorf("missed = %d, want 2", n)
	}
	if got := testenv.One[int](t, f, "SELECT norm FROM users"); got != -1 {
		t.Errorf("the target is %d, want -1", got)
	}
	f.Run(t, "BEGIN; UPDATE users SET email = '0'; UPDATE users SET note = 'm'; UPDATE users SET email = '1'; COMMIT")
	if n := f.missed(t); n != 3 {
		t.Errorf("missed = %d, want 3: in one transaction only the write that failed counts", n)
	}
}

// What is read in the time zone and date style of the session would differ from what the fleet makes.
func TestCaptureMakesWhatTheFleetMakes(t *testing.T) {
	t.Parallel()
	e := ddl.Expression{SQL: "(email)::text", Inputs: []ddl.Input{{Name: "email"}}, Type: "text"}
	f := made(t, "CREATE TABLE users (id bigint PRIMARY KEY, email timestamptz, norm text)", "norm", e)
	f.Run(t, "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; INSERT INTO users VALUES (1, '2001-02-03 04:05:06+00'); RESET timezone; RESET datestyle")
	if got := testenv.One[string](t, f, "SELECT norm FROM users"); got != "2001-02-03 04:05:06+00" {
		t.Errorf("capture made %s", got)
	}
}

func TestExpressionKeepsTheCollationOfItsColumn(t *testing.T) {
	t.Parallel()
	e := lowered()
	e.Inputs[0].Collation = `pg_catalog."tr-x-icu"`
	f := made(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text COLLATE pg_catalog."tr-x-icu", norm text)`, "norm", e)
	f.Run(t, "INSERT INTO users VALUES (1, 'II')")
	if !testenv.One[bool](t, f, "SELECT norm = 'ıı' AND "+f.Value("t")+" = 'ıı' AND NOT "+f.Undone("t")+" FROM users t") {
		t.Error("the expression was read under another collation than its column's")
	}
}

func TestExpressionMeansWhatItMeantWhenItWasMade(t *testing.T) {
	t.Parallel()
	f := made(t, usersWithNorm+`; CREATE SCHEMA evil; CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$;
		CREATE FUNCTION evil.record_image_eq(record, record) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN true; END $$; GRANT USAGE ON SCHEMA evil TO PUBLIC`, "norm", lowered())
	f.Run(t, "SET search_path = evil, pg_catalog, public; INSERT INTO users VALUES (1, 'ALICE'); UPDATE users SET note = 'x'")
	got := testenv.One[string](t, f, "SELECT concat_ws(' ', norm, "+f.Value("t")+", "+f.Undone("t")+") FROM public.users t")
	if got != "alice alice f" {
		t.Errorf("under a hostile search path: %s", got)
	}
	f.do(t, append([]string{"SET LOCAL search_path = evil, pg_catalog, public"}, f.Capture().Do...)) // made anew
	f.Run(t, "SET search_path = evil, pg_catalog, public; UPDATE users SET email = 'BOB'")
	got = testenv.One[string](t, f, "SELECT concat_ws(' ', norm, "+f.Value("t")+", "+f.Undone("t")+") FROM public.users t")
	if got != "bob bob f" {
		t.Errorf("made under a hostile search path: %s", got)
	}
}

func TestCaptureTakesTheVersionBack(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"norm", "email"} {
		e := lowered()
		e.Version, e.Number = "form", 3
		f := made(t, "CREATE TABLE users (id bigint PRIMARY KEY, email text, norm text, note text, form int DEFAULT 3)", target, e)
		for _, c := range []struct {
			writer, sql string
			want        int
		}{
			{"", "INSERT INTO users VALUES (1, 'A')", 2},
			{ddl.WriterClient, "UPDATE users SET email = 'a', form = 3", 3},
			{"", "UPDATE users SET note = 'x', email = email", 3},
			{"", "UPDATE users SET email = 'B'", 2},
			{ddl.WriterFleet, "UPDATE users SET " + target + " = 'b', form = 3", 3},
			{"", "UPDATE users SET email = 'C', form = 3", 2},
			{"", "UPDATE users SET email = 'D', form = NULL", -1},
		} {
			f.write(t, c.writer, c.sql)
			if got := testenv.One[int](t, f, "SELECT coalesce(form, -1) FROM users"); got != c.want {
				t.Errorf("in %s, after %q by %q the version is %d, want %d", target, c.sql, c.writer, got, c.want)
			}
		}
		if n := f.missed(t); n != 3 {
			t.Errorf("missed = %d, want 3", n)
		}
	}
}

func TestCaptureOfAnExpressionUndoes(t *testing.T) {
	t.Parallel()
	version, condition := lowered(), lowered()
	version.Version, version.Number = "form", 1
	condition.When, condition.Judges = "(norm IS NOT NULL)", []ddl.Input{{Name: "norm"}}
	for _, e := range []ddl.Expression{lowered(), version, condition} {
		c := ddl.Column{ID: 7, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "norm", Key: []string{"id"}, Expression: &e}
		f := fixture{testenv.Database(t), c}
		f.Run(t, "CREATE TABLE users (id bigint PRIMARY KEY, email text, norm text, form int)")
		before := testenv.One[string](t, f, everything)
		for _, step := range []ddl.Step{c.Check(), c.Validate(), c.Capture(), c.Capture()} {
			f.do(t, step.Do)
		}
		if n := testenv.One[int](t, f, "SELECT count(*)::int FROM pg_trigger WHERE tgname ^@ '~cipherfleet_7_' AND tgenabled = 'A' AND tgname = ANY ($1)", ddl.AnyCaptureTriggers(7)); n != len(c.Guards()) {
			t.Errorf("%d triggers stand, want %d", n, len(c.Guards()))
		}
		f.do(t, c.Capture().Undo)
		f.do(t, c.Check().Undo)
		if testenv.One[string](t, f, everything) != before {
			t.Error("something is left")
		}
	}
}
