package cli

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// plan is the roadmap, which ends with this exit code.
func (s *shell) plan(code int, args ...string) roadmap.Roadmap {
	s.t.Helper()
	o := s.run(append([]string{"plan", "--json"}, args...)...)
	if o.code != code || o.err != "" {
		s.t.Fatalf("exit code %d, want %d\n%s%s", o.code, code, o.out, o.err)
	}
	return parsed[roadmap.Roadmap](s.t, o.out)
}

// commands of a column's steps.
func commands(c roadmap.Column) (list []string) {
	for _, step := range c.Steps {
		list = append(list, step.Command)
	}
	return list
}

func equal[T comparable](t *testing.T, what string, have, want []T) {
	t.Helper()
	if !slices.Equal(have, want) {
		t.Errorf("%s:\n have %v\n want %v", what, have, want)
	}
}

// TestPlanLeadsAllTheWay: before anything is installed it names every step, after each of them one less, and in the end
// none.
func TestPlanLeadsAllTheWay(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 3000)
	db.Run(t, `ANALYZE users`)
	s := newShell(t, db.URL).withKey()
	s.intent(usersTable(", reach: dropped, soak: 0s"))
	all := []string{"cipherfleet advance users.email --to schema-added", "cipherfleet advance users.email --to dual-writing",
		"cipherfleet backfill --table users --column email --prepare", "cipherfleet verify --table users --column email",
		"cipherfleet cutover users.email", "cipherfleet drop users.email", "cipherfleet drop users.email --apply"}
	unchanged(t, db, func() {
		r := s.plan(app.CodeWaiting)
		equal(t, "steps", commands(r.Columns[0]), all)
		c := r.Columns[0].Cost
		if len(r.Steps) != 1 || r.Steps[0].Command != "cipherfleet install" || r.Verdict != roadmap.VerdictWork || c.Rows != 2700 || c.Measured || c.Guessed || c.Seconds != 1 || len(r.Unknown) == 0 {
			t.Errorf("%+v, %+v", r, c)
		}
		if perRow := c.WALBytes / c.Rows; perRow < 150 || perRow > 900 {
			t.Errorf("%d bytes of WAL a row", perRow)
		}
	})
	s.must(backfillUsers()...)
	equal(t, "steps of what is backfilled", commands(s.plan(app.CodeWaiting).Columns[0]), all[3:])
	s.must("verify", "--table", "users")
	equal(t, "steps of what is verified", commands(s.plan(app.CodeWaiting).Columns[0]), all[4:])
	s.intent(usersTable(", reach: backfilled") + "  - {source: note, schemes: {1: {}}}\n")
	if r := s.plan(app.CodeWaiting); len(r.Columns[0].Steps) != 0 || r.Columns[0].Cost != nil || !r.Columns[1].Cost.Measured || r.Columns[1].Cost.PerSecond <= 0 {
		t.Errorf("%+v", r)
	}
	swap(t, db)
	db.Run(t, `ALTER TABLE users DROP email_plaintext CASCADE`)
	s.must("status")
	s.intent(usersTable(", reach: dropped"))
	r := s.plan(app.CodeDone)
	if r.Verdict != roadmap.VerdictDone || r.Columns[0].Phase != lifecycle.PhaseDropped {
		t.Errorf("%+v", r)
	}
	if text := s.must("plan").out; text != "✓ public.users.email: dropped\nnothing to do: columns as the manifest wants them: 1\n" {
		t.Errorf("a person reads\n%s", text)
	}
}

// TestPlanOfARotationProvesWhatItSeals: a verified column that is to be rotated is verified again behind it, for its cutover
// wants that; each step that is named leads on.
func TestPlanOfARotationProvesWhatItSeals(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 200)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.must("verify", "--table", "users")
	s.intent("  - table: users\n    columns:\n      - {source: email, scheme: 2, schemes: {1: {}, 2: {padding: 32}}, reach: cut-over, soak: 0s}\n")
	steps := commands(s.plan(app.CodeWaiting).Columns[0])
	equal(t, "steps", steps, []string{"cipherfleet scheme new users.email --number 2", "cipherfleet rotate users.email --to 2", "cipherfleet verify --table users --column email", "cipherfleet cutover users.email"})
	for i, step := range steps {
		s.must(strings.Fields(step)[1:]...)
		if i+1 < len(steps) {
			equal(t, "steps behind "+step, commands(s.plan(app.CodeWaiting).Columns[0]), steps[i+1:])
		}
	}
	s.plan(app.CodeDone)
}

// TestPlanProvesWhatABackfillAdds: rows that have become uncovered since a verification are covered, and each step leads on.
func TestPlanProvesWhatABackfillAdds(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	s.must("verify", "--table", "users")
	s.intent(usersTable(", reach: cut-over, soak: 0s"))
	db.Run(t, `UPDATE users SET email = 'new' WHERE id = 1`)
	for steps := commands(s.plan(app.CodeWaiting).Columns[0]); len(steps) > 0; {
		s.must(strings.Fields(steps[0])[1:]...)
		next := commands(parsed[roadmap.Roadmap](t, s.run("plan", "--json").out).Columns[0])
		equal(t, "steps behind "+steps[0], next, steps[1:])
		steps = next
	}
}

// TestPlanLeadsToABlindIndex: it comes behind the cells, and when it is ready nothing is left; rows that lose their token
// are work again. What is indexed by somebody else, or cannot be, stays a difference.
func TestPlanLeadsToABlindIndex(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	wants := ", indexes: [{name: email_bidx, normalise: lower-trim}]"
	s.intent(usersTable(wants))
	makes := []string{"cipherfleet index new users.email email_bidx", "cipherfleet index build users.email email_bidx"}
	steps := func(what string, code int, want ...string) {
		t.Helper()
		r := s.plan(code)
		equal(t, what, commands(r.Columns[0]), want)
		if len(r.Columns[0].Differences) > 0 || (code == app.CodeDone) != (r.Verdict == roadmap.VerdictDone) {
			t.Errorf("%s: %s, %+v", what, r.Verdict, r.Columns[0].Differences)
		}
	}
	if all := commands(s.plan(app.CodeWaiting).Columns[0]); len(all) < 3 || !slices.Equal(all[len(all)-2:], makes) {
		t.Errorf("before the cells: %q", all)
	}
	s.must(backfillUsers()...)
	steps("cells", app.CodeWaiting, makes...)
	s.must("index", "new", "users.email", "email_bidx")
	steps("a column of tokens", app.CodeWaiting, makes[1])
	s.must("index", "build", "users.email", "email_bidx")
	steps("ready", app.CodeDone)
	db.Run(t, `UPDATE users SET email_bidx = NULL WHERE id = 1`)
	steps("a row without its token", app.CodeWaiting, makes[1])
	s.must("index", "build", "users.email", "email_bidx")
	s.must("index", "new", "users.email", "email_bidx", "--next")
	steps("another generation", app.CodeWaiting, makes[1]+" --generation 2")
	s.intent(usersTable(", reach: dual-writing, indexes: [{name: other_bidx}]"))
	c := s.plan(app.CodeWaiting).Columns[0]
	equal(t, "another is listed", commands(c), []string{"cipherfleet index new users.email other_bidx", "cipherfleet index build users.email other_bidx"})
	if len(c.Differences) != 2 || c.Differences[0].What != "index email_bidx" || c.Differences[0].Wanted != "not there" { // of two generations
		t.Errorf("what the manifest does not list: %+v", c.Differences)
	}
}

// TestPlanComparesABlindIndex: one that is otherwise than the manifest describes it is told of, in every way in which it is, and
// no step leads there. Described as it is, it is in the way no more.
func TestPlanComparesABlindIndex(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.must("index", "new", "users.email", "email_bidx", "--normalise", "lower-trim", "--unique")
	s.must("index", "build", "users.email", "email_bidx")
	s.must("index", "new", "users.email", "email_bidx", "--next")
	s.must("index", "build", "users.email", "email_bidx", "--generation", "2")
	const as, normalise, bytes, unique = "index email_bidx ", "normalise", "bytes", "unique"
	for described, want := range map[string][]roadmap.Difference{
		"normalise: lower-trim, unique: true": {},
		"normalise: lower-trim":               {{What: as + unique, Wanted: "false", Is: "true"}},
		"unique: true":                        {{What: as + normalise, Wanted: "exact", Is: "lower-trim"}},
		"normalise: digits, bytes: 8":         {{What: as + normalise, Wanted: "digits", Is: "lower-trim"}, {What: as + bytes, Wanted: "8", Is: "16"}, {What: as + unique, Wanted: "false", Is: "true"}},
	} {
		s.intent(usersTable(", indexes: [{name: email_bidx, " + described + "}]"))
		if len(want) == 0 {
			if r := s.plan(app.CodeDone); len(r.Columns[0].Differences) > 0 || len(r.Columns[0].Blockers) > 0 {
				t.Errorf("%s: %+v", described, r.Columns[0])
			}
			continue
		}
		c := s.plan(app.CodeRefused).Columns[0]
		if !slices.Equal(c.Differences, want) || len(c.Blockers) != 1 || !strings.Contains(c.Blockers[0].Hint, "cipherfleet index drop users.email email_bidx") || len(c.Steps) > 0 {
			t.Errorf("%s: %+v", described, c)
		}
		equal(t, described, c.Flags, []string{status.FlagIndexDiffers})
	}
}

// TestPlanKnowsWhatAPartitionedTableCanHave: a blind index, and none that is unique.
func TestPlanKnowsWhatAPartitionedTableCanHave(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF users DEFAULT; INSERT INTO users SELECT i, 'mail' || i FROM generate_series(1, 20) i`)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	const unique = ", indexes: [{name: email_bidx, unique: true}]"
	s.intent(usersTable(unique))
	c := s.plan(app.CodeRefused).Columns[0]
	if len(c.Steps) != 0 || len(c.Blockers) != 1 || !strings.Contains(c.Blockers[0].Message, "cannot be unique") || len(c.Differences) != 1 || c.Differences[0] != (roadmap.Difference{What: "index email_bidx", Wanted: "there", Is: "not there"}) {
		t.Errorf("a unique one: %+v", c)
	}
	s.run("index", "new", "users.email", "email_bidx").refusedWith(t, app.CodeRefused, "public.users is partitioned", "leave --unique out")
	s.intent(usersTable(", indexes: [{name: email_bidx}]"))
	c = s.plan(app.CodeWaiting).Columns[0]
	equal(t, "steps", commands(c), []string{"cipherfleet index new users.email email_bidx", "cipherfleet index build users.email email_bidx"})
	if lock := c.Steps[1].Lock; !strings.Contains(lock, "of each partition, and SHARE of all for a moment") || len(c.Blockers) > 0 {
		t.Errorf("lock %q, %+v", lock, c.Blockers)
	}
	s.must("index", "new", "users.email", "email_bidx")
	s.must("index", "build", "users.email", "email_bidx")
	if r := s.plan(app.CodeDone); r.Verdict != roadmap.VerdictDone {
		t.Errorf("built: %+v", r.Columns[0])
	}
	s.intent(usersTable(unique))
	if c := s.plan(app.CodeRefused).Columns[0]; len(c.Blockers) != 1 || !strings.Contains(c.Blockers[0].Message, "is another one than the manifest describes") {
		t.Errorf("built, and a unique one is wanted: %+v", c)
	}
}

// planned is what a plan says of a database that was altered.
type planned struct {
	sql, manifest string
	code          int
	kinds         []string // of the blockers of the column and the database
	message       string   // in one of them
}

func planCases() map[string]planned {
	reach := usersTable(", reach: cut-over")
	return map[string]planned{
		"nothing to do": {code: app.CodeDone},
		"view":          {sql: `CREATE VIEW v AS SELECT email FROM users`, manifest: reach, code: app.CodeRefused, kinds: []string{"dependent"}, message: "view public.v"},
		"function": {sql: `CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT max(email) FROM users'`, manifest: reach, code: app.CodeRefused,
			kinds: []string{"dependent"}, message: "function public.f()"},
		"generated column": {sql: `ALTER TABLE users ADD low text GENERATED ALWAYS AS (lower(email)) STORED`, manifest: reach, code: app.CodeRefused, kinds: []string{"dependent"}, message: "generated column low"},
		"a view beside":    {sql: `CREATE VIEW v AS SELECT note FROM users`, manifest: reach, code: app.CodeWaiting},
		"row security": {sql: `CREATE ROLE %[1]s; GRANT USAGE, CREATE ON SCHEMA public TO %[1]s; ALTER TABLE users OWNER TO %[1]s; ALTER TABLE users ENABLE ROW LEVEL SECURITY`,
			manifest: reach, code: app.CodeWaiting},
		"user triggers": {sql: `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f();
UPDATE users SET email = 'x' WHERE id = 1`, code: app.CodeRefused, kinds: []string{"preflight"}, message: `"touch" on public.users`},
		"generated source": {sql: `ALTER TABLE users ADD low text GENERATED ALWAYS AS (lower(note)) STORED`, manifest: usersTable("") + "  - {source: low, schemes: {1: {}}}\n",
			code: app.CodeRefused, kinds: []string{"preflight"}, message: `column "low" is generated`},
		"no key":      {sql: `CREATE TABLE bare (v text)`, manifest: "- table: bare\n  columns: [{source: v, schemes: {1: {}}}]\n", code: app.CodeRefused, kinds: []string{"preflight"}, message: "no primary key"},
		"not there":   {manifest: "- table: Users\n  columns: [{source: email, schemes: {1: {}}}]\n", code: app.CodeRefused, kinds: []string{"manifest"}, message: `no table "Users"`},
		"no column":   {manifest: "- table: users\n  columns: [{source: mail, schemes: {1: {}}}]\n", code: app.CodeRefused, kinds: []string{"manifest"}, message: `no column "mail"`},
		"transform":   {manifest: "- table: users\n  columns: [{source: note, transform: proxy, type: eql_v2_encrypted}]\n", code: app.CodeRefused, kinds: []string{"preflight", "proxy"}, message: "CIPHERFLEET_PROXY_URL"},
		"decrypt":     {manifest: "- table: users\n  columns: [{source: note, transform: decrypt, schemes: {1: {}}}]\n", code: app.CodeRefused, kinds: []string{"manifest"}, message: "transform decrypt"},
		"external":    {manifest: "- table: users\n  columns: [{source: note, transform: external, type: jsonb, external: {subject: crypto.users}}]\n", code: app.CodeWaiting},
		"where":       {manifest: "- table: users\n  where: id > 7\n  columns: [{source: note, schemes: {1: {}}}]\n", code: app.CodeWaiting},
		"backward":    {manifest: usersTable(", reach: dual-writing"), code: app.CodeDone},
		"drift":       {sql: `ALTER TABLE users DISABLE TRIGGER "~cipherfleet_1_insert"`, code: app.CodeWaiting},
		"renamed":     {sql: `ALTER TABLE users RENAME TO people`, code: app.CodeDone},
		"padding":     {manifest: strings.Replace(usersTable(""), "padding: 16", "padding: 32", 1), code: app.CodeWaiting},
		"quarantined": {sql: `INSERT INTO cipherfleet.quarantine (job_id, column_id, relid, key, key_hash, reason) SELECT id, 1, relid, '{1}', 'h', 'r' FROM cipherfleet.jobs`, code: app.CodeWaiting},
	}
}

func TestPlanSaysWhatStandsInTheWay(t *testing.T) {
	t.Parallel()
	for name, test := range planCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db := backfilled(t)
			if strings.Contains(test.sql, "%[1]s") {
				owner := "owner_" + testenv.One[string](t, db, `SELECT current_database()::text`)
				test.sql = fmt.Sprintf(test.sql, owner)
				t.Cleanup(func() {
					for _, sql := range []string{"DROP OWNED BY " + owner + " CASCADE", "DROP ROLE " + owner} {
						if _, err := db.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
							t.Error(err)
						}
					}
				})
			}
			if test.sql != "" {
				db.Run(t, test.sql)
			}
			if test.manifest != "" {
				s.intent(test.manifest)
			}
			var r roadmap.Roadmap
			unchanged(t, db, func() { r = s.plan(test.code) })
			s.checkPlan(name, test, r)
		})
	}
}

func (s *shell) checkPlan(name string, test planned, r roadmap.Roadmap) {
	s.t.Helper()
	obstacles, text := slices.Clone(r.Blockers), s.run("plan").out
	for _, c := range r.Columns {
		obstacles = append(obstacles, c.Blockers...)
	}
	var kinds []string
	told := test.message == ""
	for _, o := range obstacles {
		kinds, told = append(kinds, o.Kind), told || strings.Contains(o.Message, test.message)
		if o.Hint == "" || !strings.Contains(text, "BLOCKED  "+o.Message+"\n") || !strings.Contains(text, o.Hint) {
			s.t.Errorf("%+v is not in\n%s", o, text)
		}
	}
	equal(s.t, "kinds", kinds, test.kinds)
	if !told {
		s.t.Errorf("no blocker says %q: %+v", test.message, obstacles)
	}
	first := roadmap.Column{}
	if len(r.Columns) > 0 {
		first = r.Columns[0]
	}
	said := map[string]bool{
		"backward":     len(first.Warnings) == 1 && first.Warnings[0].Kind == "backward",
		"drift":        len(first.Steps) == 1 && slices.Equal(first.Flags, []string{status.FlagCaptureDisabled}),
		"padding":      len(first.Differences) == 1 && first.Differences[0] == roadmap.Difference{What: "scheme padding", Wanted: "32", Is: "16"},
		"quarantined":  len(first.Steps) == 1 && strings.HasPrefix(first.Steps[0].Command, "cipherfleet job retry "),
		"renamed":      slices.Equal(first.Flags, []string{status.FlagTableRenamed}),
		"row security": len(first.Warnings) == 1 && first.Warnings[0].Kind == "row-security",
		"no key":       len(r.Unlisted) == 1 && r.Unlisted[0].Column == "email" && strings.Contains(text, "not in the manifest: public.users.email, which is backfilled\n"),
	}
	if is, asked := said[name]; asked && !is {
		s.t.Errorf("%+v", r)
	}
}

// TestPlanWantsAKeyAndAManifest, and says how to get them.
func TestPlanWantsAKeyAndAManifest(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL)
	s.intent(usersTable(""))
	r := s.plan(app.CodeRefused)
	if c := r.Columns[0]; len(c.Blockers) != 1 || c.Blockers[0].Kind != "key" || c.Blockers[0].Hint == "" {
		t.Errorf("without a key: %+v", c.Blockers)
	}
	s.run("plan", "--manifest", s.path("none.yaml")).refusedWith(t, app.CodeUsage, "there is no manifest", "cipherfleet init")
	s.write("bad.yaml", "version: 1\ntables: 7\n", 0o644)
	s.run("plan", "--manifest", s.path("bad.yaml")).refusedWith(t, app.CodeUsage, "bad.yaml", "mend it")
	s.run("plan", "--table", "Users").refusedWith(t, app.CodeRefused, `no column of a table "Users"`, "literally")
}

// TestPlanForHostileNames: a shell that is given a step's command hands each name on as it is.
func TestPlanForHostileNames(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	table, column := `T "x"; echo $(id) %s`, `e'mail`
	db.Run(t, `CREATE SCHEMA "S.p"; CREATE TABLE "S.p".`+pg.Ident(table)+` ("I d" int PRIMARY KEY, `+pg.Ident(column)+` text)`)
	s := newShell(t, db.URL).withKey()
	s.must("init", "--schema", "S.p", "--table", table, "--column", column)
	c := s.plan(app.CodeWaiting).Columns[0]
	if len(c.Steps) != 3 {
		t.Fatalf("%+v", c)
	}
	for _, command := range commands(c) {
		out := must(exec.Command("sh", "-c", `cipherfleet() { for word; do printf '%s\n' "$word"; done; }; `+command).Output())
		words := strings.Split(string(out), "\n")
		for flag, name := range map[string]string{"--schema": "S.p", "--table": table, "--column": column} {
			if at := slices.Index(words, flag); at < 0 || words[at+1] != name {
				t.Errorf("%s: %s is %q", command, flag, words)
			}
		}
	}
}

// TestPlanForWhoOnlyLooks: the right to the tables of schema cipherfleet is enough, and what cannot be done is said.
func TestPlanForWhoOnlyLooks(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	_, at := role(t, db, "looks", `GRANT USAGE ON SCHEMA cipherfleet TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %s`)
	reader := newShell(t, at).with("CIPHERFLEET_KEK", "file:"+s.path("cipherfleet.kek.json")).with("CIPHERFLEET_MANIFEST", s.path("cipherfleet.yaml"))
	unchanged(t, db, func() { reader.plan(app.CodeDone) })
	s.intent(usersTable("") + "  - {source: note, schemes: {1: {}}}\n")
	unchanged(t, db, func() {
		r := reader.plan(app.CodeRefused)
		if c := r.Columns[1]; len(c.Blockers) == 0 || !strings.Contains(c.Blockers[0].Message, "may not alter") || !c.Cost.Guessed || !slices.ContainsFunc(r.Unknown, func(u string) bool { return strings.Contains(u, "pg_read_all_stats") }) {
			t.Errorf("%+v", r)
		}
	})
}
