package cli

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
)

const statusLong = `Show where every column stands, the registered ones and those that only the manifest names: its phase, how many rows
are covered, what its job does, how many writes missed the target and whose they were, and what is not as it should be.

Coverage is an estimate: of a sample of the table where it may be read, else of how far the job is. --exact counts every
row, which reads the whole table. Neither opens a cell; that is verify's. No more is needed than the right to read the
tables of schema cipherfleet; a where: of the manifest that is not, letter by letter, the last job's is read on a
temporary copy of the table's shape, by whoever may make one. Nothing is written, but for one event: a plaintext that is
gone after its cutover is recorded as dropped, if the role may do that.

Flags say what differs from what was prepared, or from the manifest: not-in-database, table-missing, table-renamed,
source-missing, source-renamed, source-type, target-missing, target-renamed, target-type, plaintext-missing,
phase-contradicted, check-missing, check-altered, check-not-validated, capture-missing, capture-altered,
capture-disabled, capture-not-always, unwatched, where-differs, key-missing, key-changed, bound-changed,
bound-unwatched, index-missing, index-unwanted, index-differs, index-not-ready, index-invalid, index-uncovered,
uncovered, stale, plaintext-written, quarantined, scheme-mix, job-idle, eql-not-registered, eql-pending, eql-not-ready.
docs/operations.md says what each means and what to do about it.

--watch draws again and again, every two seconds or as often as it says, until SIGINT: in place on a terminal, else one
line for each column and each time.

Exit codes: 0 shown, also after SIGINT · 2 bad flag, environment or manifest · 4 refused: the schema is not installed,
or no such table is registered · 6 Postgres unavailable · 7 denied`

const statusExample = `  cipherfleet status
  cipherfleet status --table users --exact
  cipherfleet status --watch=5s
  cipherfleet status --json | jq '.columns[] | {table, column, phase, flags}'`

func newStatus(read settings) *cobra.Command {
	var request status.Request
	asJSON, every := false, time.Duration(0)
	c := &cobra.Command{Use: "status", Short: "Show where every column stands", Long: statusLong, Example: statusExample, Args: noArgs}
	c.Flags().StringVar(&request.Table, "table", "", "only this table; also as schema.table")
	c.Flags().BoolVar(&request.Exact, "exact", false, "count every row instead of estimating; reads the whole table")
	c.Flags().DurationVar(&every, "watch", 0, "show it again and again, this often, until SIGINT")
	c.Flags().Lookup("watch").NoOptDefVal = "2s"
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with --watch one line each time")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if c.Flags().Changed("watch") && every < 100*time.Millisecond {
			return usage(errors.New("--watch wants at least 100ms"), c)
		}
		return runStatus(c, request, every, asJSON, read)
	}
	return c
}

func runStatus(c *cobra.Command, request status.Request, every time.Duration, asJSON bool, read settings) error {
	config, err := read()
	if err != nil {
		return err
	}
	if request.Manifest, err = loadManifest(config.Manifest); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	request.Read = preflight.ReadCondition
	show := func(status status.Report) error { return page.Status(c.OutOrStdout(), status) }
	if asJSON {
		show = func(status status.Report) error { return json.NewEncoder(c.OutOrStdout()).Encode(status) }
	}
	if every > 0 {
		if !asJSON {
			show = watcher(c.OutOrStdout())
		}
		return watchStatus(c.Context(), s, request, every, show)
	}
	report, err := status.Read(c.Context(), s.db, request)
	if err != nil {
		return err
	}
	return show(report)
}
