package demo_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/demo"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// performance is one run of `cipherfleet demo` as a process, with a folder for temporary files of its own.
type performance struct {
	t    *testing.T
	cmd  *exec.Cmd
	tmp  string
	out  bytes.Buffer // standard output, to be read when it has ended
	gone chan struct{}

	mu     sync.Mutex
	played []string // lines of the display, so far
}

const longest = 3 * time.Minute

// perform starts a demo of few rows whose figures go to standard output and whose display goes to standard error.
func perform(t *testing.T, variables []string, flags ...string) *performance {
	t.Helper()
	return performFrom(t, programs(t), variables, flags...)
}

func performFrom(t *testing.T, programs string, variables []string, flags ...string) *performance {
	t.Helper()
	tmp, err := os.MkdirTemp("", "cipherfleet-demo-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil { // Postgres may run as another user
		t.Fatal(err)
	}
	p := &performance{t: t, tmp: tmp, gone: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(programs, "cipherfleet"), append([]string{"demo", "--json"}, flags...)...)
	p.cmd.Env = append(append(os.Environ(), "TMPDIR="+tmp, "DEMO_ROWS=2000"), variables...)
	p.cmd.Stdout = &p.out
	display, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.watch(display)
	t.Cleanup(p.cleanUp)
	return p
}

func (p *performance) watch(display io.Reader) {
	defer close(p.gone)
	lines := bufio.NewScanner(display)
	for lines.Scan() {
		p.mu.Lock()
		p.played = append(p.played, lines.Text())
		p.mu.Unlock()
	}
	p.cmd.Wait() //nolint:errcheck // its exit code is looked at
}

func (p *performance) cleanUp() {
	p.cmd.Process.Kill() //nolint:errcheck // it has ended, or the test has failed
	<-p.gone
	if p.t.Failed() {
		p.t.Logf("the display was:\n%s", p.display())
	}
	if err := os.RemoveAll(p.tmp); err != nil {
		p.t.Error(err)
	}
}

func (p *performance) display() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.played, "\n")
}

// await waits until the display says something.
func (p *performance) await(text string) {
	p.t.Helper()
	testenv.Eventually(p.t, longest, func() error {
		if strings.Contains(p.display(), text) {
			return nil
		}
		select {
		case <-p.gone:
			p.t.Fatalf("it ended before it said %q", text)
		default:
		}
		return fmt.Errorf("it has not said %q", text)
	})
}

// ends demands an exit code.
func (p *performance) ends(code int) {
	p.t.Helper()
	select {
	case <-p.gone:
	case <-time.After(longest):
		p.t.Fatal("it does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("the exit code is %d, not %d", got, code)
	}
}

func (p *performance) figures() (f demo.Figures) {
	p.t.Helper()
	if err := json.Unmarshal(p.out.Bytes(), &f); err != nil {
		p.t.Fatalf("the figures %q: %v", p.out.String(), err)
	}
	return f
}

// leavesNothing demands that no process and no file is left.
func (p *performance) leavesNothing() {
	p.t.Helper()
	if left := p.processes(); len(left) > 0 {
		p.t.Errorf("these still run: %q", left)
	}
	left, err := os.ReadDir(p.tmp)
	if err != nil || len(left) > 0 {
		p.t.Errorf("these files are left: %v, %v", left, err)
	}
}

// processes lists what runs with anything of the demo's folder in its command or as its working folder.
func (p *performance) processes() (found []string) {
	p.t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, path := range commands {
		command, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		at, _ := os.Readlink(filepath.Join(filepath.Dir(path), "cwd")) // another user's may not be read, and is not ours
		if strings.Contains(string(command)+at, p.tmp) {
			found = append(found, path+": "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	if len(commands) == 0 { // no Linux
		out, err := exec.Command("ps", "-A", "-o", "args=").Output()
		if err != nil {
			p.t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, p.tmp) {
				found = append(found, line)
			}
		}
	}
	return found
}
