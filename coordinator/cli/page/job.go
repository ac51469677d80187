package page

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
)

// Progress is one line about a job, for people.
func Progress(j messages.Job) string {
	percent, eta := percentOf(j), ""
	if left := j.Total - j.Rows; left > 0 && j.RowsPerSecond > 0 && j.State == string(work.Running) {
		eta = fmt.Sprintf(", %v left", remaining(float64(left)/j.RowsPerSecond))
	}
	if j.State == string(work.Running) && j.Rows == 0 && j.Ranges.Pending > 0 && j.Ranges.Leased == 0 {
		eta += ", no worker has taken a range yet"
	}
	if len(j.HandedBack) > 0 && (j.State == string(work.Running) || j.State == string(work.Sweeping)) {
		eta += ", handed back by workers: " + strings.Join(handedBack(j.HandedBack), ", ")
	}
	if j.State == string(work.Planning) {
		return fmt.Sprintf("%s %s: ranges are being cut", j.Table, j.State)
	}
	return fmt.Sprintf("%s %s: %.0f %% (%d of about %d rows, %.0f rows/s%s), ranges %d open, %d done; %d rows read again, %d in quarantine",
		j.Table, j.State, percent, j.Rows, j.Total, j.RowsPerSecond, eta, j.Ranges.Pending, j.Ranges.Done, j.Conflicts, j.Quarantined)
}

// remaining is a time that is left, in seconds: at most a century, for a job that has just begun may seem to need longer than
// can be told.
func remaining(seconds float64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(seconds, century.Seconds())) * time.Second
}

// handedBack are the reasons for which ranges were handed back, in words where there are some.
func handedBack(classes []string) (reasons []string) {
	words := map[string]string{"42501": "a right is missing in the database (42501)", "foreign_key": "no right key for values that others encrypted", "key": "the key service refuses or is out of reach"}
	for _, class := range classes {
		if word, known := words[class]; known {
			class = word
		}
		reasons = append(reasons, class)
	}
	return reasons
}

// percentOf goes by rows or by ranges, whichever is further, rounded down: the number of rows is an estimate, and a job over
// a table that is mostly covered writes few.
func percentOf(j messages.Job) float64 {
	rows, ranges := 0.0, 0.0
	if j.Total > 0 {
		rows = 100 * float64(j.Rows) / float64(j.Total)
	}
	if all := j.Ranges.Done + j.Ranges.Pending; all > 0 {
		ranges = 100 * float64(j.Ranges.Done) / float64(all)
	}
	return math.Floor(min(100, max(rows, ranges)))
}

// Jobs is a table: a line a job.
func Jobs(w io.Writer, jobs []messages.Job) error {
	if len(jobs) == 0 {
		_, err := fmt.Fprintln(w, "no job was started yet; cipherfleet backfill starts one")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "JOB\tKIND\tTABLE\tCOLUMNS\tSTATE\tDONE\tROWS\tQUARANTINED\tSTARTED\tSTOPPED BY\n")
	for _, j := range jobs {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%.0f %%\t%d\t%d\t%s\t%s\n", j.ID, j.Kind, j.Table, strings.Join(j.Columns, ", "), j.State, percentOf(j), j.Rows, j.Quarantined,
			j.CreatedAt.UTC().Format(time.DateTime+"Z"), j.StoppedBy)
	}
	return table.Flush()
}

// Shown is a job in full.
type Shown struct {
	messages.Job
	Key        []string              `json:"key_columns"`
	Quarantine []control.Quarantined `json:"quarantine,omitempty"`
}

// Job is a line for each thing that there is to say about a job; with its rows in quarantine, if they were asked for.
func Job(w io.Writer, j Shown, quarantined bool) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("job", "%s, a %s", j.ID, map[string]string{messages.KindBackfill: "backfill", messages.KindRotate: "rotation", messages.KindRollback: "rollback: cells are opened", messages.KindIndex: "blind index being filled"}[j.Kind])
	line("columns", "%s of %s, by key (%s)", strings.Join(j.Columns, ", "), j.Table, strings.Join(j.Key, ", "))
	line("state", "%s", Progress(j.Job))
	line("started", "%s", j.CreatedAt.UTC().Format(time.RFC3339))
	line("workers", "%d, on %d ranges", j.Workers, j.Ranges.Leased)
	if j.Skipped > 0 {
		line("later", "%d rows that somebody held are left for the next sweep", j.Skipped)
	}
	if j.StoppedBy != "" {
		line("stopped", "%s", j.StoppedBy)
	}
	if j.TraceID != "" {
		line("trace", "%s", j.TraceID)
	}
	if quarantined && len(j.Quarantine) == 0 {
		line("aside", "no row is in quarantine")
	}
	for _, q := range j.Quarantine {
		reason := q.Reason
		if len(q.Failed) < len(q.Columns) {
			reason = strings.Join(q.Failed, ", ") + ": " + reason
		}
		line("aside", "%s of %s, since %s: %s%s", q.Hash, q.Table, q.At.UTC().Format(time.RFC3339), reason, j.keyOf(q))
	}
	if int64(len(j.Quarantine)) < j.Quarantined && quarantined {
		line("", "and %d more", j.Quarantined-int64(len(j.Quarantine)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// keyOf is the row's key, if it was asked for.
func (j Shown) keyOf(q control.Quarantined) string {
	if len(q.Key) != len(j.Key) {
		return ""
	}
	parts := make([]string, len(j.Key))
	for i, name := range j.Key {
		parts[i] = fmt.Sprintf("%s = %q", name, q.Key[i])
	}
	return "; key " + strings.Join(parts, ", ")
}
