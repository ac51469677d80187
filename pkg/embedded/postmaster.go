package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postmaster is one run of a server process.
type postmaster struct {
	process *os.Process
	ended   chan struct{} // closed when the process is gone and reaped
}

// launch starts the server and returns at once. The process is started and awaited on an operating system thread of
// its own: the kernel ties "end with your parent" to the thread that started the child, not to the whole program.
func launch(c *cluster) (*postmaster, error) {
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	cmd := c.as.command(context.Background(), c.home, filepath.Join(c.bindir, "postgres"), "-D", c.data())
	cmd.Stdout, cmd.Stderr = log, log
	endWithParent(cmd.SysProcAttr)
	p := &postmaster{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := errors.Join(cmd.Start(), log.Close())
		p.process = cmd.Process
		started <- err
		if err == nil {
			cmd.Wait() // how it ended is in its log
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s as %s: %w", cmd.Path, c.as, err)
	}
	return p, nil
}

const pollInterval = 5 * time.Millisecond

// ready waits until the server accepts connections; it fails when the server ends or ctx does.
func (p *postmaster) ready(ctx context.Context, c *cluster) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if p.announcesReady(c) {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return fmt.Errorf("Postgres ended while starting:\n%s", c.logTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for Postgres: %w\n%s", ctx.Err(), c.logTail())
		}
	}
}

// announcesReady reads the file that the server keeps for pg_ctl: line 1 is its process id, line 8 its status. A file
// left behind by a killed server carries another id.
func (p *postmaster) announcesReady(c *cluster) bool {
	content, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(content), "\n")
	return len(lines) > 7 && lines[0] == strconv.Itoa(p.process.Pid) && strings.TrimSpace(lines[7]) == "ready"
}

// kill ends the server as a crash would: every process of it, at one moment, without a word. Each backend has its
// process group to itself, so they are looked up while the stopped postmaster can neither start nor mourn any.
func (p *postmaster) kill() error {
	pid := p.process.Pid
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop Postgres: %w", err)
	}
	family, err := children(pid)
	if err != nil {
		return fmt.Errorf("list processes of Postgres: %w", err)
	}
	killed := p.signal(syscall.SIGKILL)
	for _, child := range family {
		killed = errors.Join(killed, ignoreGone(syscall.Kill(child, syscall.SIGKILL)))
	}
	if killed != nil {
		return fmt.Errorf("kill Postgres: %w", killed)
	}
	<-p.ended
	return awaitGone(family)
}

// signal sends to the postmaster; one that has ended already is no error.
func (p *postmaster) signal(s syscall.Signal) error { return ignoreGone(p.process.Signal(s)) }

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

const killTimeout = time.Minute

// awaitGone waits until none of the processes runs any more: the next server refuses to start beside one.
func awaitGone(pids []int) error {
	deadline := time.NewTimer(killTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for _, pid := range pids {
		for alive(pid) {
			select {
			case <-tick.C:
			case <-deadline.C:
				return fmt.Errorf("wait for killed Postgres process %d: still alive after %s", pid, killTimeout)
			}
		}
	}
	return nil
}
