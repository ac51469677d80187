package leak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// program is a process that runs until it is told to drain, or killed.
type program struct {
	name string
	log  string // file of all that it says
	cmd  *exec.Cmd
}

// command is one of the programs with the world's environment, saying all that it says into a file of its own.
func (w *world) command(ctx context.Context, argv ...string) (*exec.Cmd, string) {
	w.t.Helper()
	log := filepath.Join(w.logs, fmt.Sprintf("%03d-%s.log", len(w.said), argv[0]))
	w.said = append(w.said, log)
	file, err := os.Create(log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = file.Close() }) // the process has a descriptor of its own
	cmd := exec.CommandContext(ctx, filepath.Join(w.programs, argv[0]), argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.dir, w.env, file, file
	return cmd, log
}

// run runs a command to its end and returns its exit code.
func (w *world) run(args ...string) (code int, said string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	cmd, log := w.command(ctx, append([]string{"cipherfleet"}, args...)...)
	err := cmd.Run()
	text, readErr := os.ReadFile(log)
	if readErr != nil || cmd.ProcessState == nil {
		w.t.Fatal(err, readErr)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// ends runs a command that has to end with this exit code.
func (w *world) ends(code int, args ...string) string {
	w.t.Helper()
	got, said := w.run(args...)
	if got != code {
		w.t.Fatalf("cipherfleet %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, said)
	}
	return said
}

// succeeds runs a command until what it asks is there to answer, and ready: on a busy machine that may take a while.
func (w *world) succeeds(args ...string) {
	w.t.Helper()
	testenv.Eventually(w.t, 2*time.Minute, func() error {
		code, said := w.run(args...)
		switch code {
		case done:
			return nil
		case away, waiting:
			return errors.New(said)
		}
		w.t.Fatalf("cipherfleet %s: exit code %d\n%s", strings.Join(args, " "), code, said)
		return nil
	})
}

// start starts a program that stays.
func (w *world) start(argv ...string) *program {
	w.t.Helper()
	cmd, log := w.command(context.WithoutCancel(w.t.Context()), argv...)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &program{name: strings.Join(argv, " "), log: log, cmd: cmd}
	w.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill() // the test has failed already
			_ = p.cmd.Wait()
		}
	})
	return p
}

// says waits until the program has said something.
func (p *program) says(t *testing.T, what string) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() error {
		text, err := os.ReadFile(p.log)
		if err == nil && !strings.Contains(string(text), what) {
			err = fmt.Errorf("%s does not say %q:\n%s", p.name, what, text)
		}
		return err
	})
}

// kill ends it as a crash would.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// drain ends it in order.
func (p *program) drain(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("%s: %v", p.name, err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", p.name, err)
	}
}

// keepsItsMemory: the running process makes no core dump.
func (p *program) keepsItsMemory(t *testing.T) {
	t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if fields := strings.Fields(strings.TrimPrefix(line, "Max core file size")); strings.HasPrefix(line, "Max core") && (fields[0] != "0" || fields[1] != "0") {
			t.Errorf("%s: %s", p.name, line)
		}
	}
}
