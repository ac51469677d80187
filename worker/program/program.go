// Package program is the worker as a program: it opens what a runner needs, works until it has drained, and closes
// everything. It needs Postgres, NATS and the key-encryption key, and no right to change a schema.
package program

import (
	"cmp"
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

const usage = `cipherfleet-worker pulls ranges from NATS JetStream and encrypts their rows in Postgres.

It takes no arguments; its environment is described in docs/configuration.md. Needed are
DATABASE_URL, NATS_URL, and CIPHERFLEET_KEK unless the key is cipherfleet.kek.json in the present
folder: a worker reads no manifest. The first SIGINT or SIGTERM drains: chunks in hand commit, the
rest stays for others. A second one gives them up.

Exit codes: 0 drained, 1 unexpected, 2 bad environment, 4 refused: the key does not fit, or the
schema is newer, 6 Postgres, NATS or key unavailable, 7 denied, 75 draining took too long,
130 a second signal.
`

// Main runs the worker in the environment of this process and returns the exit code. kinds are the kinds of
// key-encryption keys that this program is linked with beside the ones that every program knows.
func Main(args []string, out, errout io.Writer, kinds ...kms.Kind) int {
	if len(args) > 0 {
		return answer(args, out, errout)
	}
	err := app.KeepMemory()
	if err == nil {
		err = run(context.Background(), errout, kinds)
	}
	if err != nil {
		return app.Report(errout, err)
	}
	return app.CodeDone
}

// answer serves the arguments there are.
func answer(args []string, out, errout io.Writer) int {
	switch args[0] {
	case "-h", "--help", "help":
		_, _ = io.WriteString(out, usage) // nobody is left to tell
		return app.CodeDone
	case "--version", "version":
		_, _ = fmt.Fprintln(out, "cipherfleet-worker "+app.Version())
		return app.CodeDone
	}
	return app.Report(errout, &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("cipherfleet-worker takes no arguments, but got %q", args[0]),
		Hint: "it is configured by its environment; see cipherfleet-worker --help"})
}

// run opens everything, works until drained, and closes everything.
func run(parent context.Context, errout io.Writer, kinds []kms.Kind) error {
	config, err := app.Read[app.Worker]()
	config.Link(kinds...)
	if err == nil {
		err = config.Validate()
	}
	if err != nil {
		return err
	}
	app.TuneMemory(memoryLimit)
	log := app.NewLogger(errout, config.Logging)
	work, drain, stop := app.Signals(parent, config.Drain, log)
	defer stop()
	traces, err := app.OpenTraces(parent, config.Tracing, "cipherfleet-worker", app.Version(), log)
	if err != nil {
		return err
	}
	defer traces.Close(context.WithoutCancel(parent)) //nolint:errcheck // spans are not worth an exit code
	return serve(work, drain, config, log, traces)
}

const (
	memoryLimit = 36 << 20 // bytes of Go's memory; with the program itself a worker stays below 64 MiB

	patience   = 30 * time.Second // to reach NATS at the start
	defaultKEK = "file:cipherfleet.kek.json"
)

// serve opens Postgres, NATS and the key, and works until drained.
func serve(work, drain context.Context, config app.Worker, log *slog.Logger, traces *app.Traces) error {
	slots := cmp.Or(config.Slots, runtime.GOMAXPROCS(0))
	kek, err := config.OpenKEK(work, cmp.Or(config.KEK, defaultKEK), "")
	if err != nil {
		return err
	}
	foreign, err := config.OpenForeignKeys()
	if err != nil {
		return err
	}
	db, err := app.OpenDatabase(work, config.Database, "cipherfleet-worker", int32(2*slots+3), traces)
	if err != nil {
		return err
	}
	defer db.Close()
	if db.Pooled() {
		log.InfoContext(work, "a pooler gives each transaction another session: no statement stays prepared, which costs some speed")
	}
	proxy, err := app.OpenProxy(work, config.Proxy, "cipherfleet-worker", int32(slots), traces)
	if err != nil {
		return err
	}
	if proxy != nil {
		defer proxy.Close()
	}
	queue, err := bus.Connect(work, config.NATS.Bus("cipherfleet-worker", patience, log, traces))
	if err != nil {
		return err
	}
	defer queue.Close()
	health, err := listen(drain, config.WorkerListen, log, db, queue)
	if err != nil {
		return err
	}
	defer health.Close(context.WithoutCancel(work)) //nolint:errcheck // the process ends
	id := cmp.Or(config.WorkerID, name())
	log = log.With("worker", id)
	log.InfoContext(work, "the worker is ready", "slots", slots, "only_approved_modes", fips140.Enforced())
	r := &runner.Runner{DB: db, Proxy: proxy, Bus: queue, KEK: kek, Foreign: foreign, Worker: id, Build: app.Version(), Slots: slots, Lease: config.Lease,
		Log: log, Tracer: traces.Tracer()}
	if err := r.Run(work, drain); err != nil {
		return err
	}
	log.InfoContext(work, "the worker drained")
	closing, cancel := context.WithTimeout(context.WithoutCancel(work), drainTime)
	defer cancel()
	if err := queue.Drain(closing); err != nil && !errors.Is(err, bus.ErrClosed) {
		log.WarnContext(closing, "the connection to NATS did not drain", "error", err)
	}
	return nil
}

const drainTime = 5 * time.Second // for what is still to be sent to NATS

// listen answers for the worker's health: ready means that Postgres and NATS answer and that it does not drain.
func listen(drain context.Context, address string, log *slog.Logger, db *pg.DB, queue *bus.Bus) (*app.HealthServer, error) {
	health := app.NewHealth(log, app.Check{Name: "postgres", Probe: db.Ping}, app.Check{Name: "nats", Probe: queue.Ready})
	context.AfterFunc(drain, health.Drain)
	return health.Listen(address, nil)
}

// name is host, process and something random: two workers never share one.
func name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), uuid.NewString()[:8])
}
