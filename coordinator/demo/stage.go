package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// stage is what the fleet works on.
type stage struct {
	dir     string
	url     string // of the demo's database; holds a password
	db      *pg.DB
	nats    *embedded.NATS
	bus     *bus.Bus
	kek     cell.KEK
	spans   *spans // nil: they go where the environment says, or nowhere
	closers []func() error
}

// closing remembers what to do at the end; what was opened last is closed first.
func (s *stage) closing(f func() error) { s.closers = append(s.closers, f) }

func (s *stage) close() error {
	var failed error
	for _, f := range slices.Backward(s.closers) {
		failed = errors.Join(failed, f())
	}
	s.closers = nil
	return failed
}

// openServers makes the folder and the key, Postgres with the demo's database, and NATS.
func (p *play) openServers(ctx context.Context) error {
	s := &p.stage
	if err := s.openFolder(ctx); err != nil {
		return err
	}
	if err := p.screen.step("starting Postgres", func() (string, error) { return s.openDatabase(ctx, p.Config) }); err != nil {
		return err
	}
	if err := s.openSpans(p.Config.Tracing); err != nil {
		return err
	}
	return p.screen.step("starting NATS", func() (string, error) { return s.openNATS(ctx) })
}

// openFolder makes the folder of logs, queue and key, open to its owner only.
func (s *stage) openFolder(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "cipherfleet-demo-"); err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	s.closing(func() error { return os.RemoveAll(s.dir) })
	if err := kms.CreateFile(s.keyFile()); err != nil {
		return err
	}
	s.kek, err = kms.Open(ctx, "file:"+s.keyFile(), "")
	return err
}

func (s *stage) keyFile() string { return filepath.Join(s.dir, "kek.json") }

func (s *stage) openNATS(ctx context.Context) (what string, err error) {
	if s.nats, err = embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(s.dir, "nats")}); err != nil {
		return "", err
	}
	s.closing(s.nats.Stop)
	s.bus, err = bus.Connect(ctx, bus.Config{Name: "cipherfleet-demo", InProcess: s.nats, TokenFile: s.nats.TokenFile()})
	if err != nil {
		return "", err
	}
	s.closing(func() error { s.bus.Close(); return nil })
	return fmt.Sprintf("NATS: in this process at %s, JetStream on disk, by token", strings.TrimPrefix(s.nats.URL(), "nats://")), nil
}

// A worker that is killed leaves its ranges until their lease ends. Nobody wants to watch the usual ten seconds pass.
const (
	lease     = 3 * time.Second
	ackWait   = 6 * time.Second
	reconcile = 500 * time.Millisecond
	slots     = 2 // ranges that a worker has in work at once
)

// environment is all that the fleet's processes get to see: nothing of what is exported around the demo, but for what
// is said about traces, and, when it uses a named server, about how to reach Postgres.
func (p *play) environment(id string) []string {
	s := &p.stage
	variables := []string{
		"DATABASE_URL=" + s.url,
		"NATS_URL=" + s.nats.URL(),
		"CIPHERFLEET_NATS_TOKEN_FILE=" + s.nats.TokenFile(),
		"CIPHERFLEET_KEK=file:" + s.keyFile(),
		"CIPHERFLEET_STATE_DIR=" + s.dir,
		"CIPHERFLEET_LEASE=" + lease.String(),
		"CIPHERFLEET_ACK_WAIT=" + ackWait.String(),
		"CIPHERFLEET_RECONCILE=" + reconcile.String(),
		"CIPHERFLEET_CATCH_UP=off", // on a slow machine the coordinator's own sweep would come before the request that is shown
		"CIPHERFLEET_SLOTS=" + strconv.Itoa(slots),
		"CIPHERFLEET_WORKER_ID=" + id,
		"CIPHERFLEET_LISTEN=off",
		"CIPHERFLEET_WORKER_LISTEN=off",
		"CIPHERFLEET_LOG_LEVEL=" + p.Config.LogLevel,
		"CIPHERFLEET_LOG_FORMAT=text",
	}
	if s.spans != nil {
		variables = append(variables, "OTEL_EXPORTER_OTLP_ENDPOINT="+s.spans.url())
	} else {
		variables = append(variables, app.Inherit("OTEL_")...)
	}
	if p.Config.DemoDatabaseURL != "" {
		variables = append(variables, app.Inherit("PG", "HOME=")...) // what the server's URL may rely on
	}
	return variables
}
