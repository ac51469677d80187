package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const seedSQL = `DROP TABLE IF EXISTS public.users;
DROP SCHEMA IF EXISTS cipherfleet CASCADE;
CREATE TABLE public.users (id bigint PRIMARY KEY, email text NOT NULL, name text, created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO public.users (id, email, name) SELECT i, 'user' || i || '@example.com', 'User number ' || i FROM generate_series(1, %d) i;
ALTER TABLE public.users ADD COLUMN email_encrypted bytea;
VACUUM ANALYZE public.users;
CHECKPOINT`

// seed makes the table anew, so that no arm inherits another's bloat.
func (b *stand) seed(ctx context.Context) error {
	for _, sql := range strings.Split(fmt.Sprintf(seedSQL, b.rows), ";\n") {
		if _, err := b.db.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

const (
	connections  = 2
	ceilingRange = 25_000 // rows of one UPDATE: what a range of the fleet has
)

// ceiling writes a constant of a cell's size, with check and capture in place: what the server can do at most.
func ceiling(ctx context.Context, b *stand) (time.Duration, error) {
	if err := lifecycle.Install(ctx, b.db); err != nil {
		return 0, err
	}
	c := dualColumn() // as a backfill would prepare it
	for _, step := range []ddl.Step{c.Check(), c.Validate(), c.Capture()} {
		for _, statement := range step.Do {
			if _, err := b.db.Exec(ctx, statement); err != nil {
				return 0, err
			}
		}
	}
	prefix := cell.Prefix(1)
	constant := append(prefix[:], make([]byte, cell.Overhead+32-len(prefix))...) // an e-mail's cell, padded
	started := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for worker := range connections {
		group.Go(func() error {
			for at := worker * ceilingRange; at < b.rows; at += connections * ceilingRange {
				if _, err := b.db.Exec(ctx, `UPDATE public.users SET email_encrypted = $1 WHERE id > $2 AND id <= $3`, constant, at, at+ceilingRange); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return time.Since(started), err
}

// fleet is the product: a coordinator and two workers, as processes, with JetStream on disk.
func fleet(ctx context.Context, b *stand) (took time.Duration, err error) {
	dir, err := os.MkdirTemp(b.dir, "fleet-")
	if err != nil {
		return 0, err
	}
	if err := kms.CreateFile(filepath.Join(dir, "kek.json")); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	url := "nats://127.0.0.1:" + strconv.Itoa(port)
	environment := []string{"DATABASE_URL=" + b.postgres.URL("postgres"), "CIPHERFLEET_KEK=file:" + filepath.Join(dir, "kek.json"),
		"CIPHERFLEET_STATE_DIR=" + filepath.Join(dir, "state"), "CIPHERFLEET_NATS_TOKEN_FILE=" + filepath.Join(dir, "state", "token"),
		"CIPHERFLEET_LISTEN=off", "CIPHERFLEET_WORKER_LISTEN=off", "CIPHERFLEET_LOG_LEVEL=error", "CIPHERFLEET_SLOTS=1"}
	coordinator, err := start(ctx, cancel, environment, "cipherfleet", "serve", "--embedded", "--nats-port", strconv.Itoa(port))
	if err != nil {
		return 0, err
	}
	defer b.stop(coordinator)
	queue, err := connect(ctx, url, filepath.Join(dir, "state", "token"))
	if err != nil {
		return 0, err
	}
	defer queue.Close()
	for range connections {
		worker, err := start(ctx, cancel, append(environment, "NATS_URL="+url), "cipherfleet-worker")
		if err != nil {
			return 0, err
		}
		defer b.stop(worker)
		defer func() { b.workerRSS = max(b.workerRSS, peakMemory(worker.Process.Pid)) }()
	}
	return b.runJob(ctx, queue)
}

// runJob starts the job and waits for its end; the time is Postgres's own, from the job's row to its backfilled event.
func (b *stand) runJob(ctx context.Context, queue *bus.Bus) (time.Duration, error) {
	request := messages.StartRequest{RequestID: uuid.NewString(), Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}}}
	var job messages.Job
	err := poll(ctx, func() (bool, error) {
		var err error
		job, err = queue.Start(ctx, request)
		return err == nil, nilIfNotYet(err)
	})
	if err != nil {
		return 0, fmt.Errorf("start the job: %w", err)
	}
	err = poll(ctx, func() (bool, error) {
		err := b.db.QueryRow(ctx, `SELECT state FROM cipherfleet.jobs WHERE id::text = $1`, job.ID).Scan(&job.State)
		return job.State == "done" || job.State == "failed", err
	})
	if err != nil {
		return 0, err
	}
	var seconds float64
	var left int64
	err = b.db.QueryRow(ctx, `SELECT extract(epoch FROM max(e.created_at) - min(j.created_at))::float8, (SELECT count(*) FROM public.users WHERE email_encrypted IS NULL)
FROM cipherfleet.jobs j JOIN cipherfleet.events e ON e.job_id = j.id AND e.event = 'backfilled'`).Scan(&seconds, &left)
	if err != nil || left != 0 || job.State != "done" {
		return 0, fmt.Errorf("the job ended %s with %d rows left: %w", job.State, left, err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// process is one program of the fleet.
type process struct {
	*exec.Cmd
	ended chan struct{}
}

// start runs a program of the fleet; if it ends before it is stopped, the arm is given up.
func start(ctx context.Context, giveUp func(), environment []string, program string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), program), args...)
	c.Env, c.Stderr = append(c.Environ(), environment...), os.Stderr
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &process{c, make(chan struct{})}
	go func() {
		_ = c.Wait()
		close(p.ended)
		giveUp()
	}()
	return p, nil
}

// stop ends a program of the fleet, and adds up what it took.
func (b *stand) stop(p *process) {
	_ = p.Process.Signal(os.Interrupt)
	<-p.ended
	if p.ProcessState != nil {
		b.programs += p.ProcessState.UserTime() + p.ProcessState.SystemTime()
	}
}

// freePort is a port of loopback that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close() //nolint:errcheck // it only held the port
	return l.Addr().(*net.TCPAddr).Port, nil
}

// connect waits until the coordinator's NATS is there.
func connect(ctx context.Context, url, tokenFile string) (queue *bus.Bus, err error) {
	err = poll(ctx, func() (bool, error) {
		if _, err := os.Stat(tokenFile); err != nil {
			return false, nil
		}
		queue, err = bus.Connect(ctx, bus.Config{URL: url, Name: "loadtest", TokenFile: tokenFile})
		return err == nil, nilIfNotYet(err)
	})
	return queue, err
}

const (
	pollEvery   = 50 * time.Millisecond
	pollLongest = 5 * time.Minute
)

// poll asks until the answer is yes or an error.
func poll(ctx context.Context, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, pollLongest)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// nilIfNotYet forgives what passes while a fleet starts.
func nilIfNotYet(err error) error {
	if errors.Is(err, bus.ErrUnreachable) || errors.Is(err, bus.ErrNoCoordinator) {
		return nil
	}
	return err
}

// peakMemory is the most that a process ever had resident, in bytes; 0 where the system does not tell.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
			if err == nil {
				return kilobytes << 10
			}
		}
	}
	return 0
}
