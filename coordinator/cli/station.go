package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

const (
	patience   = 10 * time.Second // to reach NATS at the start
	defaultKEK = "file:cipherfleet.kek.json"
	planeConns = 8 // connections of a coordinator to Postgres
	fewConns   = 2 // of a command that only asks
)

// station is what a command that leads, or follows a leader, has open.
type station struct {
	config app.Coordinator
	log    *slog.Logger
	traces *app.Traces
	db     *pg.DB
	kek    cell.KEK

	foreign *foreign.Keys  // of other systems; nil: none
	server  *embedded.NATS // nil: NATS is elsewhere
	queue   *bus.Bus
	plane   *control.Plane
}

// loadManifest reads the manifest. One that is wrong, or may not be read, is an error of whoever wrote it, and so is one
// that was named and is not there: what it says of schemes would be passed over in silence. That nobody named one, and
// there is none, is os.ErrNotExist.
func loadManifest(path string) (manifest.Manifest, error) {
	m, err := manifest.Load(path)
	var wrong *manifest.Error
	switch {
	case errors.As(err, &wrong):
		return m, &app.Fail{Code: app.CodeUsage, Err: err, Hint: cmp.Or(wrong.Hint(), "mend it, or name another one with CIPHERFLEET_MANIFEST")}
	case errors.Is(err, os.ErrNotExist) && path != app.DefaultManifest:
		return m, &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("there is no manifest %s", path),
			Hint: "cipherfleet init --manifest writes one; CIPHERFLEET_MANIFEST or --manifest names another, and without either a command goes on where there is none"}
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return m, &app.Fail{Code: app.CodeUsage, Err: err, Hint: "name the manifest's file with CIPHERFLEET_MANIFEST"}
	}
	if idle := unheeded(m.Fleet); err == nil && len(idle) > 0 {
		return m, &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("%s: nothing heeds %s yet", path, strings.Join(idle, ", ")),
			Hint: "leave it out: of fleet, chunk.rows and user_triggers are heeded; how much is done at once is up to the number of workers and their CIPHERFLEET_SLOTS"}
	}
	return m, err
}

// unheeded are the bounds that a manifest asks for and that the fleet does not keep: nobody should believe in them.
func unheeded(f manifest.Fleet) (names []string) {
	usual := manifest.Default().Fleet
	for _, bound := range []struct {
		name  string
		asked bool
	}{
		{"concurrency", f.Concurrency != usual.Concurrency}, {"chunk.bytes", f.Chunk.Bytes != usual.Chunk.Bytes}, {"chunk.time", f.Chunk.Time != usual.Chunk.Time},
		{"rows_per_second", f.RowsPerSecond != usual.RowsPerSecond}, {"lock_timeout", f.LockTimeout != usual.LockTimeout},
		{"statement_timeout", f.StatementTimeout != usual.StatementTimeout}, {"quarantine_budget", f.QuarantineBudget != usual.QuarantineBudget},
	} {
		if bound.asked {
			names = append(names, "fleet."+bound.name)
		}
	}
	return names
}

// kekURI is the environment's, else the manifest's, else the file that init makes. Relative files begin at the manifest.
// A manifest that is wrong is refused even where the environment wins: nobody should believe in it.
func kekURI(config app.Coordinator) (uri, base string, err error) {
	m, err := loadManifest(config.Manifest)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	uri, base = kekBeside(config, m.KEK)
	return uri, base, nil
}

// kekBeside is the environment's, else the one that a manifest names.
func kekBeside(config app.Coordinator, named string) (uri, base string) {
	if config.KEK != "" {
		return config.KEK, ""
	}
	return cmp.Or(named, defaultKEK), filepath.Dir(config.Manifest)
}

// openBase opens log, traces and Postgres.
func openBase(ctx context.Context, config app.Coordinator, errout io.Writer, name string, connections int32) (s *station, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	s = &station{config: config, log: app.NewLogger(errout, config.Logging)}
	if s.foreign, err = config.OpenForeignKeys(); err != nil {
		return nil, err
	}
	if s.traces, err = app.OpenTraces(ctx, config.Tracing, name, app.Version(), s.log); err != nil {
		return nil, err
	}
	if s.db, err = app.OpenDatabase(ctx, config.Database, name, connections, s.traces); err != nil {
		s.close(ctx)
		return nil, err
	}
	if s.db.Pooled() {
		s.close(ctx)
		return nil, &app.Fail{Code: app.CodeUsage, Err: errors.New("DATABASE_URL leads to a pooler that gives each transaction another session: the coordinator could not keep its lock"),
			Hint: "give the coordinator and its commands the server's own address, or a pool in session mode; workers and applications may stay behind the pooler"}
	}
	return s, nil
}

// open opens them for a command that only asks.
func (read settings) open(c *cobra.Command) (*station, error) {
	config, err := read()
	if err != nil {
		return nil, err
	}
	return openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
}

// openKey opens the key-encryption key.
func (s *station) openKey(ctx context.Context) error {
	uri, base, err := kekURI(s.config)
	if err != nil {
		return err
	}
	kek, err := s.config.OpenKEK(ctx, uri, base)
	if err != nil {
		return err
	}
	s.kek = kek
	return nil
}

// patience is that of a command with jobs that the fleet begins by itself. Where there is no fleet nobody ends them, but a
// process that does everything itself.
func (s *station) patience(w io.Writer) *standing.Patience {
	p := &standing.Patience{DB: s.db, Tell: waitingFor(w)}
	if s.config.NATSURL != "" {
		p.Left = standing.LongestWait
	}
	return p
}

// waitingFor says which job is waited for.
func waitingFor(w io.Writer) func(job string) {
	return func(job string) { fmt.Fprintf(w, "waiting for job %s, which is at work on the table\n", job) }
}

// openQueue connects to NATS: the configured one, or one in this process, kept in dir.
func (s *station) openQueue(ctx context.Context, dir string, port int) (err error) {
	if s.config.NATSURL != "" {
		s.queue, err = bus.Connect(ctx, s.config.NATS.Bus("cipherfleet", patience, s.log, s.traces))
		return err
	}
	s.server, err = embedded.StartNATS(embedded.NATSOptions{Dir: dir, Port: port, Relaxed: s.config.NATSSync == "interval", Logger: s.log})
	if errors.Is(err, embedded.ErrLocked) {
		return &app.Fail{Code: app.CodeRefused, Err: err, Hint: "another coordinator keeps its NATS there: stop it, or name another folder with CIPHERFLEET_STATE_DIR and another port with --nats-port"}
	}
	if err != nil {
		return &app.Fail{Code: app.CodeUnavailable, Err: err, Hint: "is the port free, and the folder writable? --nats-port names another port, 0 takes any"}
	}
	s.queue, err = bus.Connect(ctx, bus.Config{Name: "cipherfleet", InProcess: s.server, TokenFile: s.server.TokenFile(), Logger: s.log, Tracer: s.traces.Tracer()})
	return err
}

// openPlane prepares the control plane; our schema is brought up to date first.
func (s *station) openPlane(ctx context.Context) error {
	if err := lifecycle.Install(ctx, s.db); err != nil {
		return err
	}
	s.plane = control.New(control.Plane{DB: s.db, Bus: s.queue, KEK: s.kek, AckWait: s.config.AckWait, Reconcile: s.config.Reconcile,
		Proxied: s.config.ProxyURL != "", Foreign: s.foreign, Log: s.log, Tracer: s.traces.Tracer()})
	return nil
}

// work runs workers in this process until they have drained.
func (s *station) work(work, drain context.Context, slots int) error {
	db, err := app.OpenDatabase(work, s.config.Database, "cipherfleet-worker", int32(2*slots+3), s.traces)
	if err != nil {
		return err
	}
	defer db.Close()
	proxy, err := app.OpenProxy(work, s.config.Proxy, "cipherfleet-worker", int32(slots), s.traces)
	if err != nil {
		return err
	}
	if proxy != nil {
		defer proxy.Close()
	}
	id := fmt.Sprintf("%s-%d-%s", cmp.Or(hostname(), "local"), os.Getpid(), uuid.NewString()[:8])
	r := &runner.Runner{DB: db, Proxy: proxy, Bus: s.queue, KEK: s.kek, Foreign: s.foreign, Worker: id, Build: app.Version(), Slots: slots, Lease: s.config.Lease,
		Log: s.log.With("worker", id), Tracer: s.traces.Tracer()}
	return r.Run(work, drain)
}

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return host
}

// together runs the roles of one process until all have ended; the first error ends the others.
func together(ctx context.Context, roles ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, role := range roles {
		group.Go(func() error { return role(ctx) })
	}
	return group.Wait()
}

// close closes what is open, in the order in which it is no longer needed.
func (s *station) close(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if s.queue != nil {
		s.queue.Close()
	}
	if s.server != nil {
		s.server.Stop()
	}
	if s.db != nil {
		s.db.Close()
	}
	if err := s.traces.Close(ctx); err != nil {
		s.log.WarnContext(ctx, "some spans were not sent", "error", err)
	}
}

// slots is how many ranges are in work at once in a process that also serves Postgres's and NATS's needs.
func slots() int { return max(2, runtime.GOMAXPROCS(0)) }
