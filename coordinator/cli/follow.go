package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
)

const (
	followEvery = 250 * time.Millisecond
	printEvery  = 2 * time.Second
)

// follow asks how a job stands until it ends or is paused, or drain ends, and prints a line now and then. A
// coordinator that does not answer for a while is waited for: another one takes over.
func follow(drain context.Context, out io.Writer, job messages.Job, ask func() (messages.Job, error)) (messages.Job, error) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	printed := time.Time{}
	for {
		if ended := backfill.JobState(job.State).Ended(); ended || job.State == string(backfill.Paused) || time.Since(printed) >= printEvery {
			fmt.Fprintln(out, progressLine(job))
			printed = time.Now()
			if ended || job.State == string(backfill.Paused) {
				return job, nil
			}
		}
		select {
		case <-drain.Done():
			return job, nil
		case <-tick.C:
		}
		now, err := ask()
		switch {
		case err == nil:
			job = now
		case errors.Is(err, bus.ErrNoCoordinator), errors.Is(err, bus.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		case drain.Err() != nil:
			return job, nil
		default:
			return job, err
		}
	}
}

// percentOf goes by rows or by ranges, whichever is further: the number of rows is an estimate, and a job over a table
// that is mostly covered writes few.
func percentOf(j messages.Job) float64 {
	rows, ranges := 0.0, 0.0
	if j.Total > 0 {
		rows = float64(j.Rows) / float64(j.Total)
	}
	if all := j.Ranges.Done + j.Ranges.Pending; all > 0 {
		ranges = float64(j.Ranges.Done) / float64(all)
	}
	return 100 * min(1, max(rows, ranges))
}

// progressLine is one line about a job, for people.
func progressLine(j messages.Job) string {
	percent, eta := percentOf(j), ""
	if left := j.Total - j.Rows; left > 0 && j.RowsPerSecond > 0 && j.State == string(backfill.Running) {
		eta = fmt.Sprintf(", %v left", (time.Duration(float64(left)/j.RowsPerSecond) * time.Second).Round(time.Second))
	}
	if j.State == string(backfill.Running) && j.Rows == 0 && j.Ranges.Pending > 0 && j.Ranges.Leased == 0 {
		eta += ", no worker has taken a range yet"
	}
	return fmt.Sprintf("%s %s: %.0f %% (%d of about %d rows, %.0f rows/s%s), ranges %d open, %d done, %d conflicts, %d in quarantine",
		j.Table, j.State, percent, j.Rows, j.Total, j.RowsPerSecond, eta, j.Ranges.Pending, j.Ranges.Done, j.Conflicts, j.Quarantined)
}
