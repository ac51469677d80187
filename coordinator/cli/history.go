package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const historyLong = `Print what happened to a column, the oldest first: when, what, the phase after it, how many rows, who asked for it or
did it, the note or reason, and the trace. The column may be dropped, renamed or cut over, and its table gone: the log
knows it by the names it was registered under.

Checkpoints with nothing else between them are one line; --all prints each. Keys are data: cursors are printed only
with --keys. Nothing is written, and no more is needed than the right to read the tables of schema cipherfleet.

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
	if o.request.Since, err = sinceWhen(o.since, time.Now()); err != nil {
		return usage(err, c)
	}
	config, err := read()
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
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
	return printHistory(c.OutOrStdout(), history)
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

func printHistory(w io.Writer, h status.History) error {
	if len(h.Events) == 0 {
		_, err := fmt.Fprintf(w, "%s.%s: nothing happened\n", h.Table, h.Column)
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s.%s\nTIME\tEVENT\tPHASE\tROWS\tBY\tNOTE\tTRACE\n", h.Table, h.Column)
	for _, e := range h.Events {
		event, rows := string(e.Kind), ""
		if e.Checkpoints > 0 {
			event = fmt.Sprintf("%d checkpoints", e.Checkpoints)
		}
		if e.Kind == lifecycle.KindCheckpoint {
			rows = strconv.FormatInt(e.Rows, 10)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.At.UTC().Format("2006-01-02 15:04:05Z"), event, e.Phase, rows,
			cmp.Or(e.Worker, e.Actor, "several"), entryNote(e), e.TraceID)
	}
	return table.Flush()
}

// entryNote is what there is to say about an event, on one line.
func entryNote(e status.Entry) string {
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if e.Kind == lifecycle.KindBackfillStarted {
		add("about %d rows", e.Total)
	}
	if e.Skipped > 0 {
		add("%d left for later", e.Skipped)
	}
	if e.Until != nil {
		add("until %s", e.Until.UTC().Format("15:04:05Z"))
	}
	if e.Cursor != "" {
		add("cursor %s", e.Cursor)
	}
	var detail map[string]any
	if json.Unmarshal(e.Detail, &detail) == nil {
		notes = append(notes, detailNotes(e.Kind, detail)...)
	}
	return strings.Map(oneLine, strings.Join(notes, "; "))
}

func detailNotes(kind lifecycle.Kind, detail map[string]any) (notes []string) {
	for _, name := range []string{"reason", "note", "strategy", "file", "key_hash"} {
		if text, is := detail[name].(string); is && text != "" {
			if name != "reason" && name != "note" {
				text = strings.ReplaceAll(name, "_", " ") + " " + text
			}
			notes = append(notes, text)
		}
	}
	if kind == lifecycle.KindVerified {
		word := "NOT proven"
		if detail["proven"] == true {
			word = "every row read was covered"
		}
		if sample, is := detail["sample"].(float64); is {
			word += fmt.Sprintf(", a sample of %v %%", sample)
		}
		notes = append(notes, word)
	}
	return notes
}

// oneLine keeps text that people wrote from breaking the table.
func oneLine(r rune) rune {
	if r == '\t' || r == '\n' || r == '\r' || r == '\v' || r == '\f' || r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
