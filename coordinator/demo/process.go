package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a child whose output goes to a file.
type process struct {
	name, id string
	pid      int
	log      string
	running  *os.Process
	wanted   atomic.Bool   // its end is wanted
	ended    chan struct{} // closed when it is gone and reaped
	err      error         // how it ended; to be read after ended
}

// launch starts a program with exactly this environment, in a process group of its own: an interrupt at the terminal
// is for the demo, which ends its children in order. The kernel ties "end with your parent" to the thread that started
// a child, so one stays with it. Orphaned is called when the child ends though nobody wanted it to.
func launch(p *process, dir string, environment []string, orphaned func(error), program string, args ...string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.name, err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, environment, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	p.ended = make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := errors.Join(cmd.Start(), log.Close())
		p.running = cmd.Process
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.ended)
		if !p.wanted.Load() {
			orphaned(fmt.Errorf("%s ended by itself: %s", p.name, cmd.ProcessState))
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.pid = p.running.Pid
	return nil
}

// signal sends to the process; one that is gone already is no error.
func (p *process) signal(s syscall.Signal) error {
	if err := p.running.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// kill ends the process as a crash would, and returns when it is gone.
func (p *process) kill() error {
	p.wanted.Store(true)
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.ended
	return nil
}

const drainTime = 10 * time.Second // for a process to finish what it has in hand

// stop lets the process drain. The error says that it did not, or that it ended badly.
func (p *process) stop() error {
	p.wanted.Store(true)
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		return errors.Join(fmt.Errorf("%s did not drain within %v and was killed", p.name, drainTime), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("%s drained badly: %w", p.name, p.err)
	}
	return nil
}

const tailLines = 8

// tail is the end of the process's log, for a person who needs to know why.
func (p *process) tail() []string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return []string{err.Error()}
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return lines[max(0, len(lines)-tailLines):]
}
