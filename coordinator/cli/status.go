package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
)

const statusLong = `Show where every column stands, the registered ones and those that only the manifest names: its phase, how many rows
are covered, what its job does, how many writes missed the target and whose they were, and what is not as it should be.

Coverage is an estimate: of a sample of the table where it may be read, else of how far the job is. --exact counts every
row, which reads the whole table. Neither opens a cell; that is verify's. No more is needed than the right to read the
tables of schema cipherfleet. Nothing is written, but for one event: a plaintext that is gone after its cutover is
recorded as dropped, if the role may do that.

Flags say what differs from what was prepared, or from the manifest: not-in-database, table-missing, table-renamed,
source-missing, source-renamed, source-type, target-missing, target-renamed, target-type, plaintext-missing,
phase-contradicted, check-missing, check-altered, check-not-validated, capture-missing, capture-altered,
capture-disabled, capture-not-always, key-missing, key-changed, index-missing, index-unwanted, uncovered, stale,
quarantined, scheme-mix, job-idle, eql-not-registered, eql-pending, eql-not-ready. docs/operations.md says what each
means and what to do about it.

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
	show := func(status status.Report) error { return printStatus(c.OutOrStdout(), status) }
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

func printStatus(w io.Writer, s status.Report) error {
	var b strings.Builder
	if len(s.Columns) == 0 {
		b.WriteString("no column is registered yet, and no manifest names one; cipherfleet init looks for columns\n")
	}
	for i, c := range s.Columns {
		if i > 0 {
			b.WriteString("\n")
		}
		printColumn(&b, c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printColumn is a paragraph; what there is nothing to say about has no line.
func printColumn(b *strings.Builder, c status.Column) {
	fmt.Fprintf(b, "%s.%s into %s: %s", c.Table, c.Column, c.Target, phaseText(c))
	if c.Reach != nil {
		fmt.Fprintf(b, " (wanted: %s)", *c.Reach)
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "\n  %-9s %s", name, fmt.Sprintf(format, args...))
	}
	line("covered", "%s", coverageLine(c.Coverage))
	if c.Plaintext != nil {
		line("plaintext", "in %s", *c.Plaintext)
	}
	for _, s := range c.Schemes {
		line("scheme", "%d: %d cells", s.Number, s.Rows)
	}
	for _, x := range c.Indexes {
		line("index", "%s", indexLine(x))
	}
	if c.EQL != nil {
		line("eql", "%s", *c.EQL)
	}
	if c.Verified != nil {
		line("verified", "%s", verifiedLine(c))
	}
	if c.Missed != nil && *c.Missed > 0 {
		line("missed", "%s", missedLine(c))
	}
	for _, m := range c.MissedBy[:min(len(c.MissedBy), 5)] {
		line("  by", "application %q as role %q: %d in the last day, the last at %s", m.Application, m.Role, m.Writes, m.Last.UTC().Format(time.RFC3339))
	}
	if c.Job != nil {
		line("job", "%s", jobLine(*c.Job))
	}
	if len(c.Flags) > 0 {
		line("flags", "%s", strings.Join(c.Flags, ", "))
	}
	b.WriteString("\n")
}

func phaseText(c status.Column) string {
	if c.Phase == "" {
		return "not begun"
	}
	return string(c.Phase)
}

func indexLine(x status.Index) string {
	switch {
	case x.Wanted && x.Present:
		return x.Name
	case x.Wanted:
		return x.Name + ", wanted but not there"
	}
	return x.Name + ", there but not wanted"
}

func coverageLine(c status.Coverage) string {
	about, percent := "about ", 0.0
	if c.Exact {
		about = ""
	}
	if c.Total > 0 {
		percent = 100 * float64(c.Covered) / float64(c.Total)
	}
	text := fmt.Sprintf("%s%d of %d rows (%.1f %%)", about, c.Covered, c.Total, percent)
	if c.Uncovered > 0 {
		text += fmt.Sprintf(", %d uncovered", c.Uncovered)
	}
	if c.Behind != nil && *c.Behind > 0 {
		text += fmt.Sprintf(", %d without a plaintext to go back to", *c.Behind)
	}
	if c.Quarantined > 0 {
		text += fmt.Sprintf(", %d in quarantine", c.Quarantined)
	}
	return text
}

func verifiedLine(c status.Column) string {
	at := c.Verified.At.UTC().Format(time.RFC3339)
	if c.Verified.Proven {
		return at + ", every row was covered"
	}
	text := at + ", NOT every row was covered"
	if c.Coverage.Stale != nil && *c.Coverage.Stale > 0 {
		text += fmt.Sprintf(", %d were stale", *c.Coverage.Stale)
	}
	return text
}

func missedLine(c status.Column) string {
	text := fmt.Sprintf("%d writes were caught that did not write the target", *c.Missed)
	if c.PerMinute != nil {
		text += fmt.Sprintf(", %.1f a minute", *c.PerMinute)
	}
	return text
}

func jobLine(j status.Job) string {
	text := fmt.Sprintf("%s %s: %d rows", j.ID, j.State, j.Rows)
	if j.ETASeconds != nil {
		text += fmt.Sprintf(", %.0f rows/s, %v left", j.RowsPerSecond, time.Duration(*j.ETASeconds)*time.Second)
	}
	text += fmt.Sprintf("; ranges %d open, %d in work, %d done; %d workers", j.Ranges.Pending, j.Ranges.Leased, j.Ranges.Done, j.Workers)
	if j.StoppedBy != nil {
		text += "; stopped: " + *j.StoppedBy
	}
	if j.TraceID != nil {
		text += "; trace " + *j.TraceID
	}
	return text
}
