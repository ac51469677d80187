package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// fault is one thing that goes wrong, some time after the one before it.
type fault struct {
	name  string
	after time.Duration
	do    func(ctx context.Context, s *tempest) error
}

// tempest is the storm while it blows. What a fault needs time for happens beside the faults that follow.
type tempest struct {
	w      *world
	r      *rand.Rand
	beside sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

// storm is the faults of a seed: each kind at least once, in any order, and some more.
func storm(r *rand.Rand) []fault {
	kinds := []fault{
		{name: "kill a worker", do: killWorker}, {name: "kill a worker", do: killWorker}, {name: "freeze a worker", do: freezeWorker}, {name: "wake a worker late", do: wakeLate}, {name: "wake a worker late", do: wakeLate},
		{name: "kill the coordinator", do: killCoordinator}, {name: "usurp the lead", do: usurp},
		{name: "kill NATS", do: killNATS}, {name: "wipe NATS", do: wipeNATS}, {name: "kill Postgres", do: killPostgres},
		{name: "pause the job", do: pauseJob}, {name: "drain a worker", do: drainWorker}, {name: "cut connections", do: cutConnections}, {name: "repeat messages", do: repeatMessages},
	}
	again := []fault{kinds[0], kinds[2], kinds[3], kinds[5], kinds[8], kinds[9], kinds[10]}
	for range 1 + r.IntN(3) {
		kinds = append(kinds, again[r.IntN(len(again))])
	}
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for i := range kinds {
		if kinds[i].after = between(r, 100*time.Millisecond, 700*time.Millisecond); r.IntN(5) == 0 {
			kinds[i].after = 0
		}
	}
	return kinds
}

// blow lets the faults happen and waits until everything stands again.
func (w *world) blow(ctx context.Context) error {
	s := &tempest{w: w, r: chance(w.plan.seed, forStorm)}
	for _, f := range w.plan.faults {
		rest(ctx, f.after)
		w.note("%s", f.name)
		if err := f.do(ctx, s); err != nil {
			s.fail(fmt.Errorf("%s: %w", f.name, err))
		}
	}
	s.beside.Wait()
	w.note("the storm is over")
	return errors.Join(s.errs...)
}

func (s *tempest) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}

// later does something beside the faults that follow.
func (s *tempest) later(ctx context.Context, after time.Duration, do func() error) {
	s.beside.Go(func() {
		rest(ctx, after)
		if err := do(); err != nil {
			s.fail(err)
		}
	})
}

func (s *tempest) anyOf(children []*child) *child { return children[s.r.IntN(len(children))] }

// crash kills a program, which comes back a little later.
func (s *tempest) crash(ctx context.Context, c *child, down time.Duration) error {
	c.kill()
	s.later(ctx, down, c.start)
	return nil
}

func killWorker(ctx context.Context, s *tempest) error {
	return s.crash(ctx, s.anyOf(s.w.workers), between(s.r, 0, 500*time.Millisecond))
}

// drainWorker ends a worker in order and starts it again, as an upgrade does.
func drainWorker(ctx context.Context, s *tempest) error {
	c := s.anyOf(s.w.workers)
	s.later(ctx, 0, func() error {
		ending, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		const killed = -1 // by another fault
		if code, err := c.drain(ending); err != nil || code != 0 && code != killed {
			return fmt.Errorf("drain %s: exit code %d, %v", c.name, code, err)
		}
		return c.start()
	})
	return nil
}

// freezeWorker stops a worker until its lease and its messages are somebody else's, and wakes it.
func freezeWorker(ctx context.Context, s *tempest) error {
	c := s.anyOf(s.w.workers)
	c.send(syscall.SIGSTOP)
	s.later(ctx, between(s.r, 2*time.Second, 3*time.Second), func() error { c.send(syscall.SIGCONT); return nil })
	return nil
}

// wakeLate stops a worker and wakes it in the very moment in which another claims a range that was its own: with a
// chunk in hand, and perhaps inside its transaction.
func wakeLate(ctx context.Context, s *tempest) error {
	c := s.anyOf(s.w.workers)
	c.send(syscall.SIGSTOP)
	s.later(ctx, 0, func() error {
		defer c.send(syscall.SIGCONT)
		watching, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return s.w.awaitClaim(watching, c.name)
	})
	return nil
}

// awaitClaim waits until somebody else has claimed a range of a worker, or until ctx ends.
func (w *world) awaitClaim(ctx context.Context, worker string) error {
	var ids, epochs []int64
	for ctx.Err() == nil {
		var err error
		if ids == nil {
			err = w.db.QueryRow(ctx, `SELECT coalesce(array_agg(id), '{}'), coalesce(array_agg(epoch), '{}') FROM cipherfleet.ranges WHERE worker = $1 AND state = 'pending' AND owner IS NOT NULL`, worker).Scan(&ids, &epochs)
			if err == nil && len(ids) == 0 {
				return nil // it had none
			}
		} else {
			claimed := false
			err = w.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM unnest($1::bigint[], $2::bigint[]) f (id, epoch) JOIN cipherfleet.ranges r ON r.id = f.id AND r.epoch > f.epoch)`, ids, epochs).Scan(&claimed)
			if claimed {
				return nil
			}
		}
		pause := 2 * time.Millisecond
		if err != nil {
			pause *= 10 // Postgres is down
		}
		rest(ctx, pause)
	}
	return nil
}

func killCoordinator(ctx context.Context, s *tempest) error {
	return s.crash(ctx, s.anyOf(s.w.coordinators), between(s.r, 0, 700*time.Millisecond))
}

// usurp freezes the coordinator, takes its connections to Postgres away, and with them the lead, and wakes it: it
// goes on with what it was about to write.
func usurp(ctx context.Context, s *tempest) error {
	c := s.anyOf(s.w.coordinators)
	c.send(syscall.SIGSTOP)
	err := s.terminate(ctx, "cipherfleet")
	s.later(ctx, between(s.r, 300*time.Millisecond, time.Second), func() error { c.send(syscall.SIGCONT); return nil })
	return err
}

// cutConnections breaks off whatever workers and coordinators are saying to Postgres.
func cutConnections(ctx context.Context, s *tempest) error {
	return errors.Join(s.terminate(ctx, "cipherfleet-worker"), s.terminate(ctx, "cipherfleet"))
}

func (s *tempest) terminate(ctx context.Context, application string) error {
	return eventually(ctx, func() error {
		_, err := s.w.db.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`, application)
		return err
	})
}

func killNATS(ctx context.Context, s *tempest) error {
	return s.crash(ctx, s.w.queue.child, between(s.r, 0, 500*time.Millisecond))
}

// wipeNATS loses the whole store.
func wipeNATS(ctx context.Context, s *tempest) error {
	s.w.queue.kill()
	if err := s.w.queue.wipe(); err != nil {
		return err
	}
	return s.w.queue.start()
}

// killPostgres is a crash of the database server, which recovers from its log.
func killPostgres(ctx context.Context, s *tempest) error {
	s.w.outages.Add(1)
	if err := s.w.postgres.Kill(); err != nil {
		return err
	}
	rest(ctx, between(s.r, 0, 300*time.Millisecond))
	err := eventually(ctx, func() error { return s.w.postgres.Restart(ctx) })
	s.w.outages.Add(1)
	return err
}

func pauseJob(ctx context.Context, s *tempest) error {
	d := between(s.r, 200*time.Millisecond, 800*time.Millisecond)
	s.later(ctx, 0, func() error { return s.w.operator.pause(ctx, d) })
	return nil
}

// repeatMessages offers old tasks again: late, doubled and out of order.
func repeatMessages(_ context.Context, s *tempest) error {
	s.w.note("%d messages repeated", s.w.ear.echo(s.r, 30))
	return nil
}
