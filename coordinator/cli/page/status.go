package page

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// Status is a paragraph for each column.
func Status(w io.Writer, s status.Report) error {
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
	if c.Where != nil {
		line("where", "%s", *c.Where)
	}
	if c.MovesFrom != nil {
		line("moves", "from the cells in %s", *c.MovesFrom)
	}
	if c.Plaintext != nil {
		line("plaintext", "in %s", *c.Plaintext)
	}
	about := "about "
	if c.Coverage.Exact {
		about = ""
	}
	for _, s := range c.Schemes {
		to := ""
		if s.Bound != "" {
			to = ", bound to (" + s.Bound + ")"
		}
		line("scheme", "%d: %s%d cells%s", s.Number, about, s.Rows, to)
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
	if c.Strict {
		line("strict", "writes that miss the target fail")
	}
	if text := missedLine(c); text != "" {
		line("missed", "%s", text)
	}
	within := " in the last day"
	if c.Phase == lifecycle.PhaseCutOver {
		within = ""
	}
	for _, m := range c.MissedBy[:min(len(c.MissedBy), 5)] {
		line("  by", "application %q as role %q: %d%s, the last at %s", m.Application, m.Role, m.Writes, within, m.Last.UTC().Format(time.RFC3339))
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
	if x.State != "" {
		line := fmt.Sprintf("%s, blind, generation %d, %s", x.Name, x.Generation, x.State)
		if x.Behind {
			line += "; rows have been left without a token"
		}
		if !x.Wanted {
			line += "; not in the manifest"
		}
		return line
	}
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
		percent = math.Floor(1000*float64(c.Covered)/float64(c.Total)) / 10 // 100.0 % is all of them
	}
	text := fmt.Sprintf("%s%d of %d rows (%.1f %%)", about, c.Covered, c.Total, percent)
	if c.Uncovered > 0 {
		text += fmt.Sprintf(", %d uncovered", c.Uncovered)
	}
	if c.OutsideIn {
		text += ", with those outside the condition"
	}
	if c.Outside > 0 {
		text += fmt.Sprintf(", %d outside the condition", c.Outside)
	}
	if c.Behind != nil && *c.Behind > 0 {
		text += fmt.Sprintf(", %d with no plaintext beside their cell: a rollback opens those first", *c.Behind)
	}
	if c.Quarantined > 0 {
		text += fmt.Sprintf(", %d in quarantine", c.Quarantined)
	}
	return text
}

func verifiedLine(c status.Column) string {
	at := c.Verified.At.UTC().Format(time.RFC3339)
	if c.Verified.Proven && len(c.Verified.Unproven) > 0 {
		return at + ", every row was covered, but NOT every token of " + strings.Join(c.Verified.Unproven, ", ") + " was right"
	}
	if c.Verified.Proven {
		return at + ", every row was covered"
	}
	if c.Verified.NoneWrong {
		return at + ", no cell was wrong, but rows were without one"
	}
	text := at + ", NOT every row was covered"
	if c.Coverage.Stale != nil && *c.Coverage.Stale > 0 {
		text += fmt.Sprintf(", %d were stale", *c.Coverage.Stale)
	}
	return text
}

// missedLine is about writes that missed the cell; "" if there were none.
func missedLine(c status.Column) string {
	switch {
	case len(c.MissedBy) > 0 && c.Phase == lifecycle.PhaseCutOver:
		return "the plaintext was written without its cell: cipherfleet verify tells which cells are stale"
	case len(c.MissedBy) > 0 && (c.Missed == nil || *c.Missed == 0):
		return "none since capture was made anew; before that"
	case c.Missed == nil || *c.Missed == 0:
		return ""
	}
	text := fmt.Sprintf("%d writes were caught that did not write the target", *c.Missed)
	if c.PerMinute != nil {
		text += fmt.Sprintf(", %.1f a minute", *c.PerMinute)
	}
	return text
}

func jobLine(j status.Job) string {
	text := fmt.Sprintf("%s %s: %d rows", j.ID, j.State, j.Rows)
	if j.Kind != messages.KindBackfill {
		text = fmt.Sprintf("%s (%s) %s: %d rows", j.ID, j.Kind, j.State, j.Rows)
	}
	if len(j.HandedBack) > 0 && j.StoppedBy == nil {
		text += ", handed back by workers: " + strings.Join(handedBack(j.HandedBack), ", ")
	}
	if j.ETASeconds != nil {
		text += fmt.Sprintf(", %.0f rows/s, %v left", j.RowsPerSecond, remaining(float64(*j.ETASeconds)))
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

// Watched is a column in a line.
func Watched(at time.Time, c status.Column) string {
	text := fmt.Sprintf("%s %s.%s %s: %s", at.UTC().Format(time.RFC3339), c.Table, c.Column, strings.ReplaceAll(phaseText(c), " ", "-"), coverageLine(c.Coverage))
	if c.Job != nil && c.Job.ETASeconds != nil {
		text += fmt.Sprintf(", %.0f rows/s, %v left", c.Job.RowsPerSecond, time.Duration(*c.Job.ETASeconds)*time.Second)
	}
	if len(c.Flags) > 0 {
		text += "; flags: " + strings.Join(c.Flags, ", ")
	}
	return text
}
