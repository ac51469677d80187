package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
)

const historyLong = `Print what happened to a column, the oldest first: when, what, the phase after it, how many rows, who asked for it or
did it, the note or reason, and the trace. The column may be dropped, renamed or cut over, and its table gone: the log
knows it by the names it was registered under.

Checkpoints with nothing else between them are one line, and so are rows that were set aside; --all prints each. Keys
are data: cursors are printed only with --keys. Nothing is written, and no more is needed than the right to read the
tables of schema cipherfleet.

Exit codes: 0 printed · 2 bad flag or environment · 4 refused: the schema is not installed, or no such column was ever
registered · 6 Postgres unavailable · 7 denied`

const historyExample = `  cipherfleet history users.email
  cipherfleet history crm.contacts.phone --since 24h --all
  cipherfleet history users.email --limit 1 --json | jq '.events[0]'`

type historyOptions struct {
	column  oneColumn
	request status.HistoryRequest
	since   string
	asJSON  bool
}

func newHistory(read settings) *cobra.Command {
	o := &historyOptions{}
	c := &cobra.Command{Use: "history TABLE.COLUMN", Short: "Print what happened to a column", Long: historyLong, Example: historyExample}
	f := c.Flags()
	o.column.flags(f)
	f.IntVar(&o.request.Limit, "limit", 0, "only so many lines, the newest (default: all)")
	f.StringVar(&o.since, "since", "", "only what happened since: 90m, 24h, 7d, 2026-01-31 or 2026-01-31T12:00:00Z")
	f.BoolVar(&o.request.Checkpoints, "all", false, "each checkpoint on its own")
	f.BoolVar(&o.request.Keys, "keys", false, "with --all also the cursor of each checkpoint: keys, which are data")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args, read) }
	return c
}

func (o *historyOptions) run(c *cobra.Command, args []string, read settings) (err error) {
	if o.request.Name, err = o.column.name(c, args); err != nil {
		return err
	}
	if o.request.Limit < 0 {
		return usage(fmt.Errorf("--limit was %d; accepted is 0 or more", o.request.Limit), c)
	}
	if o.request.Keys && !o.request.Checkpoints {
		return usage(errors.New("--keys is for --all"), c)
	}
	if o.request.Since, err = sinceWhen(o.since, time.Now()); err != nil {
		return usage(err, c)
	}
	s, err := read.open(c)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	history, err := status.ReadHistory(c.Context(), s.db, o.request)
	if err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(history)
	}
	return page.History(c.OutOrStdout(), history)
}

// sinceWhen reads a point in time: how long ago, a day, or a moment.
func sinceWhen(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, err := strconv.ParseUint(strings.TrimSuffix(text, "d"), 10, 16); err == nil && strings.HasSuffix(text, "d") {
		return now.Add(-time.Duration(days) * 24 * time.Hour), nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since was %q; accepted is 90m, 24h, 7d, 2026-01-31 (UTC) or 2026-01-31T12:00:00Z", text)
}
