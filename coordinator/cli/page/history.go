package page

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// History is a table: a line an event.
func History(w io.Writer, h status.History) error {
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
		if e.Checkpoints == 1 {
			event = "1 checkpoint"
		}
		if e.Quarantined > 1 {
			event = fmt.Sprintf("%d rows set aside", e.Quarantined)
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
	if kind == lifecycle.KindSchemeChanged {
		notes = append([]string{changeNote(detail)}, notes...)
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

// changeNote says of which scheme, blind index or key a change tells, and what it was.
func changeNote(detail map[string]any) string {
	name := fmt.Sprintf("scheme %v", detail["scheme"])
	switch {
	case detail["index"] != nil:
		name = fmt.Sprintf("%v, generation %v", detail["index"], detail["generation"])
	case detail["scheme"] == nil:
		name = fmt.Sprintf("key %v", detail["key"])
	}
	if what, is := detail["what"].(string); is {
		return name + ": " + what
	}
	return fmt.Sprintf("%s is %v", name, detail["to"])
}

// oneLine keeps text that people wrote from breaking the table.
func oneLine(r rune) rune {
	if r == '\t' || r == '\n' || r == '\r' || r == '\v' || r == '\f' || r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
