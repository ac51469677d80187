package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a program that is kept running, as a service manager would: whatever ends it, it comes back.
type child struct {
	name  string
	argv  []string
	env   []string
	log   string // file of its standard error and output, over all its lives
	crash func(name string, code int)

	mu      sync.Mutex
	process *os.Process // nil: down
	ended   chan struct{}
	wanted  bool
	code    int // of its last end
}

const restartAfter = 100 * time.Millisecond

// start brings it up and keeps it up.
func (c *child) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = true
	if c.process != nil {
		return nil
	}
	return c.launch()
}

// launch starts one life and watches it. The operating system's thread that starts a process must outlive it: the
// kernel ends the process with that thread.
func (c *child) launch() error {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, log, log
	cmd.SysProcAttr = endWithUs()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := errors.Join(cmd.Start(), log.Close())
		started <- err
		if err == nil {
			cmd.Wait() // its state is looked at below
			c.mourn(cmd.ProcessState, ended)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	c.process, c.ended = cmd.Process, ended
	return nil
}

// mourn notes the end of a life; one that nobody asked for is told, and followed by another.
func (c *child) mourn(state *os.ProcessState, ended chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process, c.code = nil, state.ExitCode()
	close(ended)
	if !c.wanted {
		return
	}
	c.crash(c.name, c.code)
	time.AfterFunc(restartAfter, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.wanted && c.process == nil {
			if err := c.launch(); err != nil {
				c.crash(c.name, -1)
			}
		}
	})
}

// send sends a signal; a program that is down hears nothing.
func (c *child) send(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		_ = c.process.Signal(s) // it may just have ended
	}
}

// kill ends it like a crash of its machine; it stays down until start.
func (c *child) kill() {
	c.mu.Lock()
	c.wanted = false
	process, ended := c.process, c.ended
	if process != nil {
		_ = process.Signal(syscall.SIGKILL)
	}
	c.mu.Unlock()
	if process != nil {
		<-ended
	}
}

// drain ends it in order and returns its exit code.
func (c *child) drain(ctx context.Context) (int, error) {
	c.mu.Lock()
	c.wanted = false
	process, ended := c.process, c.ended
	c.mu.Unlock()
	if process == nil {
		return c.code, nil
	}
	c.send(syscall.SIGTERM)
	select {
	case <-ended:
		return c.code, nil
	case <-ctx.Done():
		c.kill()
		return -1, fmt.Errorf("%s does not drain", c.name)
	}
}

// ends are the first lines of its log and the last: why it first ended by itself, and how it stands now.
func (c *child) ends(lines int) string {
	content, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	if len(all) > 2*lines {
		all = slices.Concat(all[:lines], []string{"…"}, all[len(all)-lines:])
	}
	return strings.Join(all, "\n")
}
