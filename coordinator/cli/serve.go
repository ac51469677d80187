package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const serveLong = `Run the coordinator: lead the fleet, plan jobs, hand out ranges, answer requests over NATS.

Several may run; one leads, the others wait to take over. With NATS_URL the queue is there; with --embedded it
is in this process, kept in CIPHERFLEET_STATE_DIR, and worker processes on this machine connect to it with the URL
and the token file that are printed at the start. With --workers this process also does the work, so that one
machine needs one command.

The first SIGINT or SIGTERM drains: chunks in hand commit, the rest stays. A second one gives them up.

Exit codes: 0 drained · 2 bad flag, environment or manifest · 4 refused: the key does not fit, the schema is newer, or
the queue is somebody else's · 6 Postgres, NATS or key unavailable · 7 denied · 75 draining took too long · 130 a second
signal`

const serveExample = `  cipherfleet serve                              # with NATS_URL
  cipherfleet serve --embedded --workers 2       # everything in one process
  cipherfleet serve --embedded --nats-port 4222  # and workers beside it`

type serveOptions struct {
	embedded bool
	workers  int
	port     int
	listen   string
}

func newServe(read settings) *cobra.Command {
	o := serveOptions{}
	c := &cobra.Command{Use: "serve", Short: "Run the coordinator", Long: serveLong, Example: serveExample, Args: noArgs}
	c.Flags().BoolVar(&o.embedded, "embedded", false, "run NATS in this process")
	c.Flags().IntVar(&o.workers, "workers", 0, "ranges that this process works on at once; 0: it leaves the work to others")
	c.Flags().IntVar(&o.port, "nats-port", 4222, "port of the embedded NATS on loopback; 0: a free one")
	c.Flags().StringVar(&o.listen, "listen", "", "address of health, or off (CIPHERFLEET_LISTEN)")
	c.RunE = func(c *cobra.Command, _ []string) error { return runServe(c, o, read) }
	return c
}

func (o serveOptions) check(c *cobra.Command, config app.Coordinator) error {
	switch {
	case o.workers < 0 || o.workers > 256:
		return usage(fmt.Errorf("--workers was %d; accepted is 0 to 256", o.workers), c)
	case o.port < 0 || o.port > 65535:
		return usage(fmt.Errorf("--nats-port was %d; accepted is 0 to 65535", o.port), c)
	case o.embedded && config.NATSURL != "":
		return &app.Fail{Code: app.CodeUsage, Err: errors.New("--embedded runs NATS in this process, but NATS_URL names one elsewhere"),
			Hint: "unset NATS_URL for this one: `env -u NATS_URL cipherfleet serve --embedded`; or leave out --embedded"}
	case !o.embedded && config.NATSURL == "":
		return &app.Fail{Code: app.CodeUsage, Err: errors.New("there is no NATS: NATS_URL is not set"), Hint: "set it, or let --embedded run NATS in this process"}
	}
	return nil
}

func runServe(c *cobra.Command, o serveOptions, read settings) error {
	config, err := read()
	if err != nil {
		return err
	}
	if o.listen != "" {
		config.Listen = o.listen
	}
	if err := o.check(c, config); err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", planeConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	work, drain, stop := app.Signals(c.Context(), config.Drain, s.log)
	defer stop()
	if err := s.openKey(work); err != nil {
		return err
	}
	if err := s.openQueue(work, config.StateDir, o.port); err != nil {
		return err
	}
	if err := s.openPlane(work); err != nil {
		return err
	}
	if config.CatchUp == "on" {
		s.plane.CatchUp = control.CatchUpEvery
	}
	health, err := s.listen(drain)
	if err != nil {
		return err
	}
	defer health.Close(context.WithoutCancel(work)) //nolint:errcheck // the process ends
	if s.server != nil {
		s.log.InfoContext(work, "NATS runs in this process", "url", s.server.URL(), "token_file", s.server.TokenFile())
	}
	err = s.serve(work, drain, o.workers)
	if short := cutShort(work); short != nil {
		return short
	}
	return err
}

// cutShort is why work was given up before it was done: a second signal, or a drain that took too long. Nil: it was not.
func cutShort(work context.Context) error {
	if cause := context.Cause(work); errors.Is(cause, app.ErrInterrupted) || errors.Is(cause, app.ErrDrainTime) {
		return cause
	}
	return nil
}

// listen answers for the coordinator's health: ready means that Postgres and NATS answer and that it does not drain.
func (s *station) listen(drain context.Context) (*app.HealthServer, error) {
	health := app.NewHealth(s.log, app.Check{Name: "postgres", Probe: s.db.Ping}, app.Check{Name: "nats", Probe: s.queue.Ready})
	context.AfterFunc(drain, health.Drain)
	return health.Listen(s.config.Listen, nil)
}

// serve leads, and works if it was told to, until drained. The workers end first: their last ranges still count.
func (s *station) serve(work, drain context.Context, workers int) error {
	leading, depose := context.WithCancel(work)
	defer depose()
	return together(work,
		func(context.Context) error { return s.plane.Lead(leading, func() {}) },
		func(ctx context.Context) error {
			defer depose()
			if workers == 0 {
				select {
				case <-drain.Done():
				case <-ctx.Done(): // the other role failed
				}
				return nil
			}
			return s.work(ctx, drain, workers)
		})
}
