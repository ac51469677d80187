package demo_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// trap is an address that nobody may touch.
func trap(t *testing.T) (address string, touched *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	touched, done := new(atomic.Int32), make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			touched.Add(1)
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().String(), touched
}

func TestADemoProvesEverythingTouchesNothingElseAndLeavesNothing(t *testing.T) {
	t.Parallel()
	address, touched := trap(t)
	host, port, _ := net.SplitHostPort(address)
	p := perform(t, []string{
		"DATABASE_URL=postgres://app:secret@" + address + "/production", "NATS_URL=nats://" + address,
		"PGHOST=" + host, "PGPORT=" + port, "PGSERVICE=production", "DEMO_DATABASE_URL=",
		"CIPHERFLEET_KEK=file:/nowhere", "CIPHERFLEET_WORKER_ID=mine", "CIPHERFLEET_WORKER_LISTEN=" + address,
		"OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=",
	}, "--keep")
	p.await("The logs of the fleet are in")
	p.reachable()
	p.stop(syscall.SIGINT)
	p.ends(app.CodeDone)
	p.leavesNothing()
	if n := touched.Load(); n > 0 {
		t.Errorf("what is exported around the demo was connected to %d times", n)
	}
	f := p.figures()
	switch v := f.Verified; {
	case !v.Proven() || v.Rows < 1500 || v.Schemes[1] < 1400:
		t.Errorf("verified: %+v", v)
	case f.Rows < 1400 || f.Seconds <= 0 || f.RowsPerSecond <= 0 || f.Chunks < 200:
		t.Errorf("the job: %+v", f)
	case f.Killed == "" || f.KilledHolding == 0 || f.Redelivered == 0:
		t.Errorf("the kill: %+v", f)
	case f.Missed == 0 || f.CaughtUp == 0 || f.Writes < 40 || f.SlowestWriteMS <= 0:
		t.Errorf("the application: %+v", f)
	case !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(f.TraceID):
		t.Errorf("the trace: %q", f.TraceID)
	}
	for _, said := range []string{
		"killed with SIGKILL", "takes its place", "ETA", "rows/s", "backfilled", "caught up", "proven",
		`\xf5c10000`, "the same", f.TraceID, "spans of the job", "redelivered tasks", "rows read again", "missed writes",
	} {
		if !strings.Contains(p.display(), said) {
			t.Errorf("the display does not say %q", said)
		}
	}
}

// reachable connects to the servers as the demo says that one can.
func (p *performance) reachable() {
	p.t.Helper()
	found := regexp.MustCompile(`DATABASE_URL='(.*)'`).FindStringSubmatch(p.display())
	if found == nil {
		p.t.Fatal("it does not say how to connect to Postgres")
	}
	conn, err := pgx.Connect(p.t.Context(), found[1])
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(p.t.Context())
	var encrypted int
	if err := conn.QueryRow(p.t.Context(), `SELECT count(email_encrypted) FROM users`).Scan(&encrypted); err != nil || encrypted < 1400 {
		p.t.Errorf("the kept table has %d cells, %v", encrypted, err)
	}
	if len(p.processes()) < 4 { // coordinator, two workers, Postgres
		p.t.Errorf("kept are only %q", p.processes())
	}
}

func (p *performance) stop(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
}

// An ordinary role that may create databases is enough.
func TestOnANamedServerTheDemoMakesAndDropsItsOwnDatabase(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	role := fmt.Sprintf("demo_%d", time.Now().UnixNano())
	db.Run(t, fmt.Sprintf(`CREATE ROLE %s LOGIN CREATEDB PASSWORD 'demo'`, role))
	t.Cleanup(func() { dropRole(t, db, role) })
	p := perform(t, []string{"DEMO_DATABASE_URL=" + as(t, db.URL, role)})
	p.await("started over NATS")
	if own := ownedBy(t, db, role); len(own) != 1 || !strings.HasPrefix(own[0], "cipherfleet_demo_") {
		t.Errorf("while it plays its databases are %q", own)
	}
	p.ends(app.CodeDone)
	p.leavesNothing()
	if own := ownedBy(t, db, role); len(own) != 0 {
		t.Errorf("it left the databases %q", own)
	}
	if f := p.figures(); !f.Verified.Proven() || f.Redelivered == 0 {
		t.Errorf("its figures are %+v", f)
	}
}

func dropRole(t *testing.T, db *testenv.DB, role string) {
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		return // the database is gone with its test
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "DROP ROLE "+role); err != nil {
		t.Error(err)
	}
}

func as(t *testing.T, server, role string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "demo")
	return u.String()
}

func ownedBy(t *testing.T, db *testenv.DB, role string) []string {
	t.Helper()
	return testenv.Column[string](t, db, `SELECT datname::text FROM pg_database WHERE datdba = $1::regrole`, role)
}

// What somebody changes behind the back of capture is seen by the proof alone. Of many rows the application may repair
// a few in passing.
func TestADemoWhoseProofFailsSaysSo(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	p := perform(t, []string{"DEMO_DATABASE_URL=" + db.URL})
	p.await("killed with SIGKILL")
	name := regexp.MustCompile(`database (cipherfleet_demo_\w+)`).FindStringSubmatch(p.display())[1]
	u, _ := url.Parse(db.URL)
	u.Path = "/" + name
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), `SET cipherfleet.writer = 'client'; UPDATE users SET email = 'somebody@else.example', email_encrypted = email_encrypted || '\x00'
 WHERE id IN (SELECT id FROM users WHERE email_encrypted IS NOT NULL ORDER BY id LIMIT 50);
UPDATE users SET email_encrypted = substr(email_encrypted, 1, length(email_encrypted) - 1) WHERE email = 'somebody@else.example'`)
	conn.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.ends(app.CodeUnproven)
	p.leavesNothing()
	if !regexp.MustCompile(`[1-9]\d* are stale`).MatchString(p.display()) || p.out.Len() > 0 {
		t.Error("it does not say that rows are stale, or prints figures all the same")
	}
}

func TestAnInterruptedDemoClearsAway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		when   string
		signal syscall.Signal
	}{
		"half-way":           {"killed with SIGKILL", syscall.SIGINT},
		"while it sets up":   {"NATS", syscall.SIGTERM},
		"terminal is closed": {"started over NATS", syscall.SIGHUP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := perform(t, nil)
			p.await(test.when)
			p.stop(test.signal)
			p.ends(app.CodeInterrupted)
			p.leavesNothing()
		})
	}
}

func TestAKilledDemoTakesItsProcessesAlong(t *testing.T) {
	t.Parallel()
	p := perform(t, nil)
	p.await("killed with SIGKILL")
	p.stop(syscall.SIGKILL)
	p.ends(-1)
	if runtime.GOOS != "linux" { // elsewhere no kernel helps: see endWithParent
		return
	}
	testenv.Eventually(t, time.Minute, func() error {
		if left := p.processes(); len(left) > 0 {
			return fmt.Errorf("these still run: %q", left)
		}
		return nil
	})
}

// fake is a folder with the real cipherfleet beside a worker that is a script.
func fake(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Link(filepath.Join(programs(t), "cipherfleet"), filepath.Join(dir, "cipherfleet")); err != nil {
		t.Fatal(err)
	}
	if script == "" {
		return dir
	}
	if err := os.WriteFile(filepath.Join(dir, "cipherfleet-worker"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAFleetThatFallsOverEndsTheDemo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		code   int
		says   []string
	}{
		"a worker that breaks": {"echo it is broken >&2; exit 3", app.CodeUnexpected, []string{"ended by itself: exit status 3", "the log of worker 1 ends:", "it is broken", "the log of the coordinator ends:"}},
		"no worker beside it":  {"", app.CodeUsage, []string{"cipherfleet-worker", "make build"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := performFrom(t, fake(t, test.script), nil)
			p.ends(test.code)
			p.leavesNothing()
			for _, said := range test.says {
				if !strings.Contains(p.display(), said) {
					t.Errorf("it does not say %q", said)
				}
			}
		})
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		variables, flags []string
		code             int
		says             string
	}{
		"too few rows":      {nil, []string{"--rows", "10"}, app.CodeUsage, "--rows was 10"},
		"too few by name":   {[]string{"DEMO_ROWS=10"}, nil, app.CodeUsage, "DEMO_ROWS was"},
		"no number":         {[]string{"DEMO_ROWS=many"}, nil, app.CodeUsage, `DEMO_ROWS was "many"`},
		"no URL":            {[]string{"DEMO_DATABASE_URL=production"}, nil, app.CodeUsage, "DEMO_DATABASE_URL"},
		"nobody there":      {[]string{"DEMO_DATABASE_URL=postgres://u:secret@127.0.0.1:1/x"}, nil, app.CodeUnavailable, "reach Postgres"},
		"no Postgres there": {[]string{"CIPHERFLEET_PG_BINDIR=/nowhere"}, nil, app.CodeUnavailable, "CIPHERFLEET_PG_BINDIR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := perform(t, test.variables, test.flags...)
			p.ends(test.code)
			p.leavesNothing()
			if display := p.display(); !strings.Contains(display, test.says) || strings.Contains(display, "secret") {
				t.Errorf("it does not say %q, or a secret", test.says)
			}
		})
	}
}
