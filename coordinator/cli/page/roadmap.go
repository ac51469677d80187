package page

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// Roadmap is what comes first, a paragraph for each column, and a conclusion.
func Roadmap(w io.Writer, r roadmap.Roadmap) error {
	var b strings.Builder
	for _, step := range r.Steps {
		fmt.Fprintf(&b, "first: %s\n  %s\n", step.Does, step.Command)
	}
	said := map[string]string{} // commands for several columns, and under which they stand
	for _, c := range r.Columns {
		printRoad(&b, c, said)
	}
	printPasses(&b, r.Columns)
	for _, u := range r.Unlisted {
		fmt.Fprintf(&b, "not in the manifest: %s.%s, which is %s\n", u.Table, u.Column, cmp.Or(string(u.Phase), "not begun"))
	}
	printObstacles(&b, "", "BLOCKED", r.Blockers)
	printObstacles(&b, "", "warning", r.Warnings)
	for _, u := range r.Unknown {
		fmt.Fprintf(&b, "unknown: %s\n", u)
	}
	b.WriteString(conclusion(r) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// printRoad is a column: a line if there is nothing to say, else a paragraph.
func printRoad(b *strings.Builder, c roadmap.Column, said map[string]string) {
	from, mark := cmp.Or(string(c.Phase), "not begun"), "→"
	switch {
	case len(c.Blockers) > 0:
		mark = "✗"
	case len(c.Steps) == 0 && len(c.Differences)+len(c.Flags) == 0:
		mark = "✓"
	}
	fmt.Fprintf(b, "%s %s.%s: %s", mark, c.Table, c.Column, from)
	if c.Phase != c.Reach {
		fmt.Fprintf(b, " → %s", c.Reach)
	}
	b.WriteString("\n")
	for i, step := range c.Steps {
		fmt.Fprintf(b, "  %d. %s\n", i+1, step.Does)
		switch first, is := said[step.Command]; {
		case step.Command == "":
		case is && len(step.With) > 0:
			fmt.Fprintf(b, "     done by the command of %s\n", first)
		default:
			said[step.Command] = c.Table + "." + c.Column
			fmt.Fprintf(b, "     $ %s\n", step.Command)
		}
		if step.Lock != "none" {
			fmt.Fprintf(b, "     lock: %s\n", step.Lock)
		}
	}
	if c.Cost != nil {
		fmt.Fprintf(b, "  cost     %s\n", costLine(*c.Cost))
	}
	for _, d := range c.Differences {
		fmt.Fprintf(b, "  differs  %s: wanted %s, is %s\n", d.What, d.Wanted, d.Is)
	}
	printObstacles(b, "  ", "BLOCKED", c.Blockers)
	printObstacles(b, "  ", "warning", c.Warnings)
	if len(c.Flags) > 0 {
		fmt.Fprintf(b, "  flags    %s\n", strings.Join(c.Flags, ", "))
	}
}

func printObstacles(b *strings.Builder, indent, word string, list []roadmap.Obstacle) {
	for _, o := range list {
		fmt.Fprintf(b, "%s%s  %s\n%s         %s\n", indent, word, o.Message, indent, o.Hint)
	}
}

func costLine(c roadmap.Cost) string {
	how := "measured by the last job"
	if !c.Measured {
		how = "a guess: no job here was large enough to measure"
	}
	text := fmt.Sprintf("about %d rows, %s of WAL, %s more on disk until vacuum, %v at %.0f rows/s (%s)", c.Rows, size(c.WALBytes), size(c.DiskBytes),
		time.Duration(c.Seconds)*time.Second, c.PerSecond, how)
	if c.Guessed {
		text += "; the width of values is a guess: no statistics could be read"
	}
	return text
}

// size is a number of bytes for a person.
func size(bytes int64) string {
	amount, units := float64(bytes), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && amount >= 1024 {
		amount, units = amount/1024, units[1:]
	}
	return fmt.Sprintf("%.0f %s", amount, units[0])
}

func conclusion(r roadmap.Roadmap) string {
	work, blocked := 0, 0
	for _, c := range r.Columns {
		if len(c.Blockers) > 0 {
			blocked++
		}
		if len(c.Steps) > 0 {
			work++
		}
	}
	switch r.Verdict {
	case roadmap.VerdictDone:
		return fmt.Sprintf("nothing to do: columns as the manifest wants them: %d", len(r.Columns))
	case roadmap.VerdictBlocked:
		return fmt.Sprintf("blocked: of %d columns %d have steps to take, and %d are blocked", len(r.Columns), work, blocked)
	}
	if work == 0 {
		return "work to do: no column has a step to take, but what differs, or is flagged, is for a person: change the manifest or the column"
	}
	return fmt.Sprintf("work to do: of %d columns %d have steps to take", len(r.Columns), work)
}

// printPasses names the columns of one table that one backfill can do together.
func printPasses(b *strings.Builder, columns []roadmap.Column) {
	var tables []string
	filled := map[string][]string{}
	for _, c := range columns {
		if !slices.ContainsFunc(c.Steps, func(s roadmap.Step) bool { return s.To == lifecycle.PhaseBackfilled }) {
			continue
		}
		if filled[c.Table] == nil {
			tables = append(tables, c.Table)
		}
		filled[c.Table] = append(filled[c.Table], c.Column)
	}
	for _, table := range tables {
		if names := filled[table]; len(names) > 1 {
			fmt.Fprintf(b, "together: one backfill of %s that names each with --column writes every row once: %s\n", table, strings.Join(names, ", "))
		}
	}
}
