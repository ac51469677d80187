package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/demo"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const demoLong = `Encrypt a live table before your eyes, on private servers that are gone afterwards.

A private Postgres gets a table of users, an application begins to write to it, and a fleet of a coordinator and two
worker processes encrypts users.email. Half-way one worker is killed with SIGKILL and another one is started. At the
end every row is decrypted and compared with its source, and the figures are printed.

DATABASE_URL is never read. With DEMO_DATABASE_URL the demo makes a database of its own on that server, and drops it.

Exit codes: 0 everything is proven · 1 unexpected · 2 bad flag or environment · 5 a proof failed ·
6 no Postgres programs, or a server cannot be reached · 7 denied · 130 interrupted`

const demoExample = `  cipherfleet demo
  cipherfleet demo --rows 1000000 --keep
  DEMO_DATABASE_URL=postgres://postgres@localhost/postgres cipherfleet demo --json`

type demoOptions struct {
	rows   int
	keep   bool
	asJSON bool
}

func newDemo() *cobra.Command {
	o := demoOptions{}
	c := &cobra.Command{Use: "demo", Short: "Encrypt a live table before your eyes", Long: demoLong, Example: demoExample, Args: noArgs}
	c.Flags().IntVar(&o.rows, "rows", 0, "rows of the table (default 200000; DEMO_ROWS)")
	c.Flags().BoolVar(&o.keep, "keep", false, "when all is proven, keep the servers up and say how to connect, until Ctrl-C")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print the figures as JSON; the display goes to standard error")
	c.RunE = func(c *cobra.Command, _ []string) error { return o.run(c) }
	return c
}

func (o demoOptions) config(c *cobra.Command) (app.Demo, error) {
	config, err := app.Read[app.Demo]()
	if err != nil {
		return config, err
	}
	if c.Flags().Changed("rows") {
		if config.DemoRows = o.rows; config.Validate() != nil {
			return config, usage(fmt.Errorf("--rows was %d; accepted is 1000 to 1000000000", o.rows), c)
		}
	}
	return config, config.Validate()
}

// forgetPostgres takes libpq's variables out of this process: a private server is reached by its URL and nothing else,
// and an exported PGSERVICE or PGOPTIONS would still have its say in every connection.
func forgetPostgres() error {
	for _, variable := range app.Inherit("PG") {
		name, _, _ := strings.Cut(variable, "=")
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("forget %s: %w", name, err)
		}
	}
	return nil
}

func (o demoOptions) run(c *cobra.Command) error {
	config, err := o.config(c)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's file: %w", err)
	}
	out := c.OutOrStdout()
	if o.asJSON {
		out = c.ErrOrStderr()
	}
	if config.DemoDatabaseURL == "" {
		if err := forgetPostgres(); err != nil {
			return err
		}
	}
	// Until everything is cleared away no signal may end the program, not even that of a closed terminal.
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	figures, err := (&demo.Demo{Config: config, Program: program, Keep: o.keep, Out: out}).Run(ctx)
	if errors.Is(err, demo.ErrInterrupted) {
		return &app.Fail{Code: app.CodeInterrupted, Err: err}
	}
	if err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(figures)
	}
	_, err = fmt.Fprintln(out, "Nothing is left running.")
	return err
}
