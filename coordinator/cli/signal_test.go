package cli

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// process is a command in a process of its own, in the environment of a shell.
type process struct {
	*exec.Cmd
	out, err guarded
}

func (s *shell) start(args ...string) *process {
	s.t.Helper()
	command := append([]string{s.program}, args...)
	if s.program == "" {
		command = append([]string{must(os.Executable()), asProgram}, args...)
	}
	if s.limit != "" {
		command = append([]string{"/bin/sh", "-c", `ulimit -d "$0" && exec "$@"`, s.limit}, command...)
	}
	p := &process{Cmd: exec.Command(command[0], command[1:]...)}
	p.Env, p.Dir, p.Stdout, p.Stderr = s.environ(), s.dir, &p.out, &p.err
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = p.Process.Kill() }) // it has ended, unless the test failed
	return p
}

// end waits for the process and returns what it left behind.
func (p *process) end(t *testing.T) outcome {
	t.Helper()
	var failed *exec.ExitError
	if err := p.Wait(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return outcome{p.ProcessState.ExitCode(), p.out.String(), p.err.String()}
}

// underWay waits until a job has written something and not everything.
func underWay(t *testing.T, db *testenv.DB) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() error {
		var rows int64
		err := db.QueryRow(t.Context(), `SELECT coalesce(sum(rows_processed), 0)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`).Scan(&rows)
		if err == nil && rows == 0 {
			err = errors.New("no chunk was committed")
		}
		return err
	})
}

// slowed makes each chunk take a while, so that a signal arrives in the middle of a job.
func slowed(t *testing.T, db *testenv.DB) {
	t.Helper()
	db.Run(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.15); RETURN NULL; END';
CREATE TRIGGER slow AFTER UPDATE ON users FOR EACH STATEMENT EXECUTE FUNCTION slow()`)
}

// TestASignalPauses: SIGINT lets the chunks in hand commit and pauses the job, also for status; the same command, in
// another process, goes on where it stood.
func TestASignalPauses(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 60_000)
	slowed(t, db)
	s := newShell(t, db.URL).withKey()
	command := append(backfillUsers(), "--chunk-rows", "200", "--user-triggers", "fire")
	p := s.start(command...)
	underWay(t, db)
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	o := p.end(t)
	o.refusedWith(t, app.CodePaused, "paused after ", "the same command resumes")

	c := s.column("--exact")
	if c.Phase != lifecycle.PhaseBackfilling || c.Job.State != "paused" || c.Job.Ranges.Leased != 0 || c.Coverage.Uncovered == 0 || c.Coverage.Covered == 0 {
		t.Errorf("in the pause status says %+v, %+v", c.Coverage, c.Job)
	}
	checkProgress(t, s, db, c)
	db.Run(t, `DROP TRIGGER slow ON users`)
	o = s.start(append(command, "--json")...).end(t)
	if o.code != app.CodeDone || !strings.Contains(o.out, c.Job.ID) {
		t.Errorf("resumed: exit code %d\n%s%s", o.code, o.out, o.err)
	}
	s.must("verify", "--table", "users")
	written := testenv.One[int64](t, db, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`)
	if written != 54_000 {
		t.Errorf("%d rows were written, want 54000, each once", written)
	}
}

// checkProgress: without a right to the table the estimate comes from how far the job is.
func checkProgress(t *testing.T, s *shell, db *testenv.DB, exact status.Column) {
	t.Helper()
	_, at := role(t, db, "reader", `GRANT USAGE ON SCHEMA cipherfleet TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %s`)
	reader := newShell(t, at)
	c := reader.column()
	if off := c.Coverage.Covered - exact.Coverage.Covered; c.Coverage.Exact || c.Missed != nil || off > 10_000 || off < -10_000 || c.Coverage.Covered+c.Coverage.Uncovered != c.Coverage.Total {
		t.Errorf("by progress %+v, exactly %+v", c.Coverage, exact.Coverage)
	}
}

// TestASecondSignalInterrupts: it gives up what is in hand, and nothing is lost by that.
func TestASecondSignalInterrupts(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20_000)
	slowed(t, db)
	s := newShell(t, db.URL).withKey()
	command := append(backfillUsers(), "--chunk-rows", "100", "--user-triggers", "fire")
	p := s.start(command...)
	underWay(t, db)
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} { // two of a kind could arrive as one
		if err := p.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	p.end(t).refusedWith(t, app.CodeInterrupted, "cancelled by a second signal", "the same command resumes")
	db.Run(t, `DROP TRIGGER slow ON users`)
	if o := s.start(command...).end(t); o.code != app.CodeDone {
		t.Errorf("again: exit code %d: %s", o.code, o.err)
	}
	s.must("verify", "--table", "users")
}
