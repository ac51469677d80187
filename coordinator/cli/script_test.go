package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestScripts runs the stories in testdata/script, one for each command and one for the whole life of a column. Each has
// a folder of its own, an empty database in DATABASE_URL, and the program itself as cipherfleet. docs/development.md
// lists what a story may say besides.
func TestScripts(t *testing.T) {
	t.Parallel()
	built := sync.OnceValue(buildWorker)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			schema, err := lifecycle.Version()
			if err != nil {
				return err
			}
			s := &story{t: e.T().(testing.TB), built: built}
			s.db = testenv.EmptyDatabase(s.t)
			e.Values[(*story)(nil)] = s
			e.Setenv("DATABASE_URL", s.db.URL)
			e.Setenv("SCHEMA", strconv.Itoa(schema))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("CIPHERFLEET_LOG_LEVEL", "error")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": told((*story).exits), "unchanged": told((*story).unchanged), "refused": told((*story).refused), "json": told((*story).json), "keep": told((*story).keep),
			"sql": told((*story).sql), "await": told((*story).await), "users": told((*story).users), "role": told((*story).role),
			"nats": told((*story).nats), "proxy": told((*story).proxy), "pooler": told((*story).pooler), "worker": told((*story).worker), "traffic": told((*story).traffic), "examples": told((*story).examples),
		},
	})
}

// story is what a script has besides its folder.
type story struct {
	t        testing.TB
	db       *testenv.DB
	resident *resident    // nil: no application was started yet
	leave    func()       // ends its writing; nil: it does not write
	built    func() error // builds the worker's program, once
}

// told is a command of a story; none but sql can be said with an exclamation mark.
func told(f func(*story, *testscript.TestScript, bool, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		f(ts.Value((*story)(nil)).(*story), ts, neg, args)
	}
}

// need fails a script that says a command wrongly.
func need(ts *testscript.TestScript, ok bool, usage string) {
	if !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

// exits runs a command and compares its exit code.
func (s *story) exits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 1, "exits CODE command…")
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		code = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if want, err := strconv.Atoi(args[0]); err != nil || code != want {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// unchanged is exits, and the database is as it was.
func (s *story) unchanged(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 1, "unchanged CODE command…")
	before := fingerprint(s.t, s.db)
	s.exits(ts, false, args)
	if fingerprint(s.t, s.db) != before {
		ts.Fatalf("the database was changed")
	}
}

// refused is unchanged, and all that is said is an error and a hint, on standard error's last two lines.
func (s *story) refused(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 1 && args[0] != "0", "refused CODE command…")
	s.unchanged(ts, false, args)
	lines := strings.Split(strings.TrimSuffix("\n"+ts.ReadFile("stderr"), "\n"), "\n")
	if n := len(lines); !strings.HasPrefix(lines[n-1], "hint: ") || !strings.HasPrefix(lines[n-2], "error: ") {
		ts.Fatalf("the last two lines are not an error and a hint")
	}
	if ts.ReadFile("stdout") != "" {
		ts.Fatalf("a refusal has standard output")
	}
}

// json compares a value inside what was printed, one line of JSON: json columns.0.phase backfilled; length is how many
// there are of a list.
func (s *story) json(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 2, "json PATH VALUE")
	if have := printed(ts, args[0]); (have == args[1]) == neg {
		ts.Fatalf("%s is %s", args[0], have)
	}
}

// keep keeps such a value in a variable.
func (s *story) keep(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 2, "keep NAME PATH")
	ts.Setenv(args[0], printed(ts, args[1]))
}

// printed is the value at a path in the JSON that was printed: a string as it is, else as JSON.
func printed(ts *testscript.TestScript, path string) string {
	var value any
	text := ts.ReadFile("stdout")
	if err := json.Unmarshal([]byte(text), &value); err != nil || strings.Count(text, "\n") != 1 {
		ts.Fatalf("not one line of JSON: %v", err)
	}
	for step := range strings.SplitSeq(path, ".") {
		value = inside(ts, value, step)
	}
	if word, ok := value.(string); ok {
		return word
	}
	encoded, err := json.Marshal(value)
	ts.Check(err)
	return string(encoded)
}

// inside takes one step of a path.
func inside(ts *testscript.TestScript, value any, step string) any {
	switch v := value.(type) {
	case map[string]any:
		if inner, ok := v[step]; ok {
			return inner
		}
	case []any:
		if step == "length" {
			return len(v)
		}
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(v) {
			return v[i]
		}
	}
	ts.Fatalf("there is no %s in %v", step, value)
	return nil
}

// sql runs statements as a superuser and prints their rows, values divided by |.
func (s *story) sql(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 1, "sql STATEMENTS")
	ctx := s.t.Context()
	conn, err := pgx.Connect(ctx, s.db.URL)
	ts.Check(err)
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the end
	results, err := conn.PgConn().Exec(ctx, args[0]).ReadAll()
	if (err != nil) != neg {
		ts.Fatalf("%s: %v", args[0], err)
	}
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
	for _, result := range results {
		for _, row := range result.Rows {
			words := make([]string, len(row))
			for i, value := range row {
				if words[i] = string(value); value == nil {
					words[i] = "NULL"
				}
			}
			fmt.Fprintln(ts.Stdout(), strings.Join(words, "|"))
		}
	}
}

// await waits until a query says true.
func (s *story) await(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "await QUERY")
	testenv.Eventually(s.t, time.Minute, func() error {
		holds := false
		err := s.db.QueryRow(s.t.Context(), args[0]).Scan(&holds)
		if err == nil && !holds {
			err = errors.New("it is not so")
		}
		return err
	})
}

// users makes table users of so many rows.
func (s *story) users(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "users ROWS")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	people(s.t, s.db, n)
}

// role makes a role with these rights (%s is its name) and keeps its URL in the variable $NAME.
func (s *story) role(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 0, "role NAME RIGHT…")
	_, at := role(s.t, s.db, args[0], args[1:]...)
	ts.Setenv(args[0], at)
}

// nats starts a server with JetStream and lets the environment name it.
func (s *story) nats(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 0, "nats")
	server := testenv.NATS(s.t)
	ts.Setenv("NATS_URL", server.URL)
	ts.Setenv("CIPHERFLEET_NATS_TOKEN_FILE", server.TokenFile)
}

// proxy starts an encrypting proxy for a column of type jsonb of table users, which spoils values that have LEAK in them,
// and lets the environment name it.
func (s *story) proxy(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "proxy COLUMN")
	p := &testenv.EncryptingProxy{Target: args[0], As: "%s::jsonb", Payload: func(plain string) string {
		hidden := hex.EncodeToString([]byte(plain))
		if strings.Contains(plain, "LEAK") {
			hidden = plain
		}
		return fmt.Sprintf(`{"v":2,"i":{"t":"users","c":"email"},"c":%q}`, hidden)
	}}
	ts.Setenv("CIPHERFLEET_PROXY_URL", p.Start(s.t, s.db.URL))
}

// pooler starts a pooler that keeps no session for a client, and keeps its URL in the variable $POOLED.
func (s *story) pooler(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 0, "pooler")
	ts.Setenv("POOLED", testenv.Pooler(s.t, s.db.URL, 4))
}

// worker puts the program cipherfleet-worker beside cipherfleet.
func (s *story) worker(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 0, "worker")
	ts.Check(s.built())
}

// buildWorker builds it from the source as it is. Scripts share the folder of the programs.
func buildWorker() error {
	beside, err := exec.LookPath("cipherfleet")
	if err != nil {
		return err
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(filepath.Dir(beside), "cipherfleet-worker"), "github.com/cipherfleet/cipherfleet/worker").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build cipherfleet-worker: %w\n%s", err, out)
	}
	return nil
}

// examples runs what a command's help shows as an example, but what does not end by itself; none may be wrong in how it
// calls the command, whatever else stands in its way.
func (s *story) examples(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 0, "examples COMMAND")
	ts.Check(ts.Exec("cipherfleet", append(args, "--help")...))
	_, text, _ := strings.Cut(ts.ReadFile("stdout"), "\nExamples:\n")
	text, _, _ = strings.Cut(text, "\n\n")
	ran := 0
	for line := range strings.Lines(text) {
		command, _, _ := strings.Cut(line, " | jq ")
		if strings.Contains(command, "--watch") {
			continue
		}
		err := ts.Exec("sh", "-c", command)
		var failed *exec.ExitError
		if err != nil && (!errors.As(err, &failed) || failed.ExitCode() == 1 || failed.ExitCode() == 2 || failed.ExitCode() > 100) {
			ts.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
		ran++
	}
	if ran == 0 {
		ts.Fatalf("there is no example")
	}
}

// traffic is an application that lives with table users: start and stop its writing, let it be honest, that is never
// forget the cell, or compare what it wrote with the columns of plaintext and of cells (- is none).
func (s *story) traffic(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 0, "traffic start | stop | honest | remembers PLAINTEXT CELLS")
	if s.resident == nil {
		s.resident = newResident(s.t, s.db)
	}
	switch {
	case args[0] == "start" && s.leave == nil:
		s.resident.knows(filepath.Join(ts.MkAbs("."), "cipherfleet.kek.json"))
		s.leave = s.resident.live()
		ts.Defer(s.rest)
		s.resident.hasWritten(10)
	case args[0] == "stop" && s.leave != nil:
		s.rest()
		for _, wrong := range s.resident.trouble {
			ts.Fatalf("the application saw: %s", wrong)
		}
	case args[0] == "honest":
		s.resident.honest.Store(true)
	case args[0] == "remembers" && len(args) == 3 && s.leave == nil:
		s.resident.remembers(strings.Trim(args[1], "-"), strings.Trim(args[2], "-"))
	default:
		ts.Fatalf("the application cannot %s now", args[0])
	}
}

// rest lets the application write no more.
func (s *story) rest() {
	if s.leave != nil {
		s.leave()
		s.leave = nil
	}
}
