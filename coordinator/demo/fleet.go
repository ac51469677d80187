package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
)

// fleet is the processes, the coordinator first, in the order in which they were started.
type fleet struct {
	all     []*process
	workers []*worker
}

// worker is one of the fleet's; at most one is killed.
type worker struct {
	process
	killed bool
}

// victim is the id of the worker that was killed, or "".
func (f *fleet) victim() string {
	for _, w := range f.workers {
		if w.killed {
			return w.id
		}
	}
	return ""
}

// stop lets all processes drain at once and waits for them.
func (f *fleet) stop() error {
	var group sync.WaitGroup
	failed := make([]error, len(f.all))
	for i, p := range f.all {
		group.Go(func() {
			select {
			case <-p.ended:
			default:
				failed[i] = p.stop()
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// tell prints the ends of all logs.
func (f *fleet) tell(s *screen) {
	for _, p := range f.all {
		s.line("")
		s.line("the log of " + p.name + " ends:")
		for _, line := range p.tail() {
			s.line("  " + line)
		}
	}
}

// start launches a program of the fleet. A process that ends by itself ends the play.
func (p *play) start(process *process, program string, args ...string) error {
	process.log = filepath.Join(p.stage.dir, process.id+".log")
	if err := launch(process, p.stage.dir, p.environment(process.id), p.fail, program, args...); err != nil {
		return err
	}
	p.fleet.all = append(p.fleet.all, process)
	return nil
}

func (p *play) workerProgram() string {
	return filepath.Join(filepath.Dir(p.Program), "cipherfleet-worker")
}

// findPrograms looks for the worker before anything is started.
func (p *play) findPrograms(context.Context) error {
	if _, err := os.Stat(p.workerProgram()); err != nil {
		return &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("find the worker's program: %w", err), Hint: "`make build` makes both programs, side by side"}
	}
	return nil
}

func (p *play) startWorker() (*worker, error) {
	number := len(p.fleet.workers) + 1
	w := &worker{process: process{name: fmt.Sprintf("worker %d", number), id: fmt.Sprintf("worker-%d", number)}}
	err := p.start(&w.process, p.workerProgram())
	if err == nil {
		p.fleet.workers = append(p.fleet.workers, w)
	}
	return w, err
}

// startFleet starts the coordinator, which installs our schema, and two workers.
func (p *play) startFleet(ctx context.Context) error {
	return p.screen.step("starting the fleet", func() (string, error) {
		coordinator := &process{name: "the coordinator", id: "coordinator"}
		if err := p.start(coordinator, p.Program, "serve"); err != nil {
			return "", err
		}
		err := eventually(ctx, "the start of the coordinator", func() (bool, error) {
			_, err := p.stage.bus.Jobs(ctx)
			if errors.Is(err, bus.ErrNoCoordinator) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return "", err
		}
		pids := make([]int, 2)
		for i := range pids {
			w, err := p.startWorker()
			if err != nil {
				return "", err
			}
			pids[i] = w.pid
		}
		return fmt.Sprintf("fleet: a coordinator (pid %d) and two workers (pids %d, %d)", coordinator.pid, pids[0], pids[1]), p.present(ctx, 2)
	})
}

// present waits until so many workers have said that they are there.
func (p *play) present(ctx context.Context, workers int) error {
	return eventually(ctx, "the start of the workers", func() (bool, error) {
		n := 0
		err := p.stage.db.QueryRow(ctx, `SELECT count(*) FROM cipherfleet.workers`).Scan(&n)
		return n >= workers, err
	})
}

// strike kills the worker that holds most ranges of the job, as a crash would, and starts another. It is frozen first:
// so it still holds, when it dies, what it was seen to hold. False: nobody held anything just then.
func (p *play) strike(ctx context.Context, job string, now standing) (bool, error) {
	victim := p.busiest(now)
	if victim == nil {
		return false, nil
	}
	if err := victim.signal(syscall.SIGSTOP); err != nil {
		return false, err
	}
	frozen, err := p.stage.standing(ctx, job)
	held := frozen.workers[victim.id].held
	if err != nil || held == 0 {
		return false, errors.Join(err, victim.signal(syscall.SIGCONT))
	}
	if err := victim.kill(); err != nil {
		return false, err
	}
	victim.killed = true
	p.figures.Killed, p.figures.KilledHolding, p.figures.UntilKill = victim.name, held, float64(frozen.rows)/time.Since(p.asked).Seconds()
	p.screen.alarm(fmt.Sprintf("%s is killed with SIGKILL at %s, while it holds %s", victim.name, p.percent(frozen.rows), plural(held, "range")))
	substitute, err := p.startWorker()
	if err != nil {
		return false, err
	}
	p.screen.event(fmt.Sprintf("%s (pid %d) takes its place; the lost leases end in %.0f s", substitute.name, substitute.pid, lease.Seconds()))
	return true, nil
}

// busiest is the worker that holds most ranges; nil if none holds any.
func (p *play) busiest(now standing) (found *worker) {
	most := 0
	for _, w := range p.fleet.workers {
		if held := now.workers[w.id].held; held > most && !w.killed {
			most, found = held, w
		}
	}
	return found
}
