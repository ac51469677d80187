package cli

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestInitLooks: at every table, also before anything is installed; it proposes by names and types, and writes nothing.
func TestInitLooks(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE TABLE people (id bigint PRIMARY KEY, email text CHECK (email <> ''), "homePhone" varchar(20), first_name text, dob date, emailed timestamptz, token_count int, note text,
 low_email text GENERATED ALWAYS AS (lower(email)) STORED);
INSERT INTO people (id, email) SELECT g, 'user' || g || '@example.org' FROM generate_series(1, 1000) g; CREATE INDEX by_email ON people (email); ANALYZE people;
CREATE VIEW v AS SELECT "homePhone" FROM people; CREATE PUBLICATION pub FOR TABLE people;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION f();
CREATE SCHEMA "S.p"; CREATE TABLE "S.p"."T; $(id)" (ssn text, id int); CREATE TABLE plain (id int PRIMARY KEY, what text)`)
	s := newShell(t, db.URL)
	var i roadmap.Introspection
	unchanged(t, db, func() { i = parsed[roadmap.Introspection](t, s.must("init", "--introspect", "--json").out) })
	if i.Looked != 3 || len(i.Tables) != 2 || i.Tables[0].Table != "S.p.T; $(id)" || i.Tables[1].Table != "public.people" {
		t.Fatalf("%+v", i)
	}
	hostile, people := i.Tables[0], i.Tables[1]
	if len(hostile.Key) != 0 || len(hostile.Columns) != 1 || len(hostile.Columns[0].Refused) != 1 || !strings.Contains(hostile.Columns[0].Refused[0].Message, "no primary key") {
		t.Errorf("%+v", hostile)
	}
	var names []string
	for _, c := range people.Columns {
		names = append(names, c.Column+" "+c.Why)
	}
	equal(t, "proposals", names, []string{"email email", "homePhone phone", "first_name firstname", "dob dob"})
	equal(t, "key", people.Key, []string{"id"})
	equal(t, "triggers", people.Triggers, []string{"touch"})
	equal(t, "publications", people.Publications, []string{"pub"})
	email, phone := people.Columns[0], people.Columns[1]
	equal(t, "indexes", email.Indexes, []string{"by_email"})
	equal(t, "constraints", email.Checks, []string{"people_email_check"})
	if people.Rows < 900 || people.Rows > 1100 || people.Bytes < 8192 || email.Bytes < 10 || len(email.Refused)+len(phone.Refused) != 0 || !strings.Contains(phone.Dependents[len(phone.Dependents)-1].String()+phone.Dependents[0].String(), "view public.v") {
		t.Errorf("%+v", people)
	}
	if _, err := os.Lstat(s.path("cipherfleet.yaml")); err == nil {
		t.Error("a manifest was written")
	}
	text := s.must("init", "--introspect").out
	if !strings.Contains(text, "  $ cipherfleet init --table people --column email --column homePhone --column first_name --column dob\n") || !strings.Contains(text, "cannot be done: S.p.T; $(id) has no primary key") {
		t.Errorf("a person reads\n%s", text)
	}
	s.look(db)
}

// look takes the proposal up, and narrows the look.
func (s *shell) look(db *testenv.DB) {
	s.t.Helper()
	db.Run(s.t, `ALTER TABLE "S.p"."T; $(id)" ADD PRIMARY KEY (id)`)
	o := s.must("init", "--introspect", "--table", "T; $(id)", "--schema", "S.p").out
	_, command, _ := strings.Cut(o, "$ ")
	words := string(must(exec.Command("sh", "-c", `cipherfleet() { for word; do printf '%s\n' "$word"; done; }; `+command).Output()))
	if words != "init\n--schema\nS.p\n--table\nT; $(id)\n--column\nssn\n" {
		s.t.Errorf("a shell hands on %q", words)
	}
	s.withKey().must("init", "--table", "people", "--column", "email", "--user-triggers", "fire")
	s.must("backfill", "--table", "people", "--column", "email", "--prepare", "--user-triggers", "fire")
	i := parsed[roadmap.Introspection](s.t, s.must("init", "--introspect", "--table", "people", "--column", "email", "--column", "note", "--json").out)
	if len(i.Tables) != 1 || len(i.Tables[0].Columns) != 2 || !i.Tables[0].Columns[0].Registered || i.Tables[0].Columns[1].Column != "note" || i.Tables[0].Columns[1].Why != "" {
		s.t.Errorf("%+v", i)
	}
	s.run("init", "--introspect", "--table", "peeple").refusedWith(s.t, app.CodeRefused, `no table "peeple"`, "literally")
	s.run("init", "--introspect", "--table", "people", "--column", "mail").refusedWith(s.t, app.CodeRefused, `public.people has no column "mail"`, `did you mean "email"?`)
	s.run("init", "--introspect", "--force").refusedWith(s.t, app.CodeUsage, "writes no manifest", "init --help")
	s.run("init", "--introspect", "--column", "x").refusedWith(s.t, app.CodeUsage, "--table is missing", "init --help")
}
