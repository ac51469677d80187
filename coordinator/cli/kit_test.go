package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// asProgram as the first argument lets the test binary be the program, for what only a process of its own can show.
const asProgram = "as-program"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asProgram {
		os.Exit(Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	testscript.Main(suite{m}, map[string]func(){"cipherfleet": func() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) }})
}

// suite is this package's tests; for the scripts among them the test binary is copied to where they find cipherfleet.
type suite struct{ m *testing.M }

func (s suite) Run() int { return testenv.Main(s.m) }

// shell is a folder and an environment in which commands are run.
type shell struct {
	t   *testing.T
	dir string
	env map[string]string

	program string // what processes of it run; "": the test binary
	limit   string // KiB of data that processes of it may have; "": no limit
}

// newShell has a database and nothing else: no manifest, no key, no NATS.
func newShell(t *testing.T, database string) *shell {
	t.Helper()
	dir := t.TempDir()
	return &shell{t: t, dir: dir, env: map[string]string{
		"DATABASE_URL": database, "HOME": dir, "CIPHERFLEET_LOG_LEVEL": "error",
	}}
}

// with is the same shell with one more variable; an empty value takes it away.
func (s *shell) with(name, value string) *shell {
	s.env[name] = value
	return s
}

// withKey makes the key's file.
func (s *shell) withKey() *shell {
	s.t.Helper()
	if err := kms.CreateFile(s.path("cipherfleet.kek.json")); err != nil {
		s.t.Fatal(err)
	}
	return s
}

func (s *shell) path(name string) string { return filepath.Join(s.dir, name) }

func (s *shell) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

// environ is what the variables are for one command. What a person has by being in the folder is named here, because
// tests beside each other have one folder: the manifest, if it is there or is to be made, else the key.
func (s *shell) environ(args ...string) []string {
	list := []string{}
	for name, value := range s.env {
		list = append(list, name+"="+value)
	}
	_, missing := os.Stat(s.path(app.DefaultManifest))
	switch {
	case s.env["CIPHERFLEET_MANIFEST"] != "":
	case missing == nil || len(args) > 0 && args[0] == "init":
		list = append(list, "CIPHERFLEET_MANIFEST="+s.path(app.DefaultManifest))
	case s.env["CIPHERFLEET_KEK"] == "":
		list = append(list, "CIPHERFLEET_KEK=file:"+s.path("cipherfleet.kek.json"))
	}
	return list
}

// outcome is what a command left behind.
type outcome struct {
	code     int
	out, err string
}

// run runs a command to its end.
func (s *shell) run(args ...string) outcome {
	s.t.Helper()
	return s.runUntil(s.t.Context(), args...)
}

func (s *shell) runUntil(ctx context.Context, args ...string) outcome {
	var out, errout guarded
	code := run(ctx, args, &out, &errout, func() (app.Coordinator, error) { return app.Parse[app.Coordinator](s.environ(args...)) })
	return outcome{code, out.String(), errout.String()}
}

// must runs a command that has to succeed.
func (s *shell) must(args ...string) outcome {
	s.t.Helper()
	o := s.run(args...)
	if o.code != app.CodeDone {
		s.t.Fatalf("cipherfleet %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.out, o.err)
	}
	return o
}

// guarded is a buffer that several goroutines may write to, as they do to standard error.
type guarded struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

func (g *guarded) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

// refusedWith checks the code, and that the last two lines are one error and one hint with these texts in them.
func (o outcome) refusedWith(t *testing.T, code int, message, hint string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(o.err, "\n"), "\n")
	last, before := lines[len(lines)-1], ""
	if len(lines) > 1 {
		before = lines[len(lines)-2]
	}
	if o.code != code || !strings.HasPrefix(before, "error: ") || !strings.Contains(before, message) ||
		!strings.HasPrefix(last, "hint: ") || !strings.Contains(last, hint) {
		t.Errorf("exit code %d, want %d with error %q and hint %q:\n%s", o.code, code, message, hint, o.err)
	}
	if o.out != "" {
		t.Errorf("standard output: %q", o.out)
	}
}

// parsed reads JSON strictly: exactly one line of it, with no field that T does not know.
func parsed[T any](t *testing.T, text string) T {
	t.Helper()
	var value T
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil || strings.Count(text, "\n") != 1 {
		t.Fatalf("%v in %q", err, text)
	}
	return value
}

// catalogSQL is one text that changes with anything anybody creates, alters or drops in a database.
const catalogSQL = `SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
  SELECT concat_ws(' ', 'class', oid, relname, relfilenode, relnatts, relchecks, relhastriggers, relhasrules, reloptions, relacl) AS line FROM pg_class WHERE relpersistence <> 't'
  UNION ALL SELECT concat_ws(' ', 'attribute', attrelid, attnum, attname, atttypid, attnotnull, attisdropped, attstorage, attacl) FROM pg_attribute
  UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname, convalidated) FROM pg_constraint
  UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgname, tgenabled) FROM pg_trigger
  UNION ALL SELECT concat_ws(' ', 'function', oid, proname, prosrc) FROM pg_proc
  UNION ALL SELECT concat_ws(' ', 'schema', oid, nspname, nspacl) FROM pg_namespace) all_of_it`

// ownSQL is the same of everything that the tables of schema cipherfleet hold.
const ownSQL = `SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
  SELECT concat('installation ', i) AS line FROM cipherfleet.installation i UNION ALL SELECT concat('column ', c) FROM cipherfleet.columns c
  UNION ALL SELECT concat('scheme ', s) FROM cipherfleet.schemes s UNION ALL SELECT concat('dek ', d) FROM cipherfleet.deks d
  UNION ALL SELECT concat('job ', j) FROM cipherfleet.jobs j UNION ALL SELECT concat('range ', r) FROM cipherfleet.ranges r
  UNION ALL SELECT concat('event ', e) FROM cipherfleet.events e UNION ALL SELECT concat('worker ', w) FROM cipherfleet.workers w) all_of_it`

// fingerprint changes when anything in the database was altered, or anything of ours was written.
func fingerprint(t testing.TB, db *testenv.DB) string {
	t.Helper()
	mark := testenv.One[string](t, db, catalogSQL)
	if testenv.One[bool](t, db, `SELECT to_regclass('cipherfleet.installation') IS NOT NULL`) {
		mark += testenv.One[string](t, db, ownSQL)
	}
	return mark
}

// unchanged runs f and fails the test if the database is not as it was before.
func unchanged(t *testing.T, db *testenv.DB, f func()) {
	t.Helper()
	before := fingerprint(t, db)
	f()
	if fingerprint(t, db) != before {
		t.Error("the database was changed")
	}
}

// people makes a table of n rows; every tenth e-mail is NULL.
func people(t testing.TB, db *testenv.DB, n int) {
	t.Helper()
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text, note text)`)
	db.Run(t, `INSERT INTO users SELECT g, CASE WHEN g % 10 > 0 THEN 'user' || g || '@example.org' END, 'n' FROM generate_series(1, $1::int) g`, n)
}

// role makes a role that may log in, with these rights (%s is its name), and returns the URL it connects by.
func role(t testing.TB, db *testenv.DB, name string, rights ...string) (as, at string) {
	t.Helper()
	name += "_" + testenv.One[string](t, db, `SELECT current_database()::text`)
	db.Run(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'of-a-test'", pg.Ident(name)))
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY " + pg.Ident(name) + " CASCADE", "DROP ROLE " + pg.Ident(name)} {
			if _, err := db.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
				t.Error(err)
			}
		}
	})
	for _, right := range rights {
		db.Run(t, strings.ReplaceAll(right, "%s", pg.Ident(name)))
	}
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "of-a-test")
	return name, u.String()
}
