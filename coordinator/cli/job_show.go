package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
)

const jobShowLong = `Show one job: what it does, how far it is, and what stopped it. --quarantined lists the rows that it left aside, with
the reason of each and a hash of its key, as logs and reports name the row. Keys are data: they are shown only with
--keys, and the output is to be handled as what it is. Mend what the reasons name, then cipherfleet job retry.

Exit codes: as of cipherfleet job`

const mostQuarantined = 1000 // rows that are shown of one job

// shown is a job in full.
type shown struct {
	messages.Job
	Key        []string              `json:"key_columns"`
	Quarantine []control.Quarantined `json:"quarantine,omitempty"`
}

func newJobShow(read settings) *cobra.Command {
	quarantined, keys, asJSON := false, false, false
	c := &cobra.Command{Use: "show JOB", Short: "Show one job, and the rows it left aside", Long: jobShowLong, Example: "  cipherfleet job show 3f2a --quarantined --keys", Args: oneJob}
	c.Flags().BoolVar(&quarantined, "quarantined", false, "list the rows in quarantine, with reasons and hashes of their keys")
	c.Flags().BoolVar(&keys, "keys", false, "with --quarantined: also the keys themselves, which are data")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if keys && !quarantined {
			return usage(fmt.Errorf("--keys is for --quarantined"), c)
		}
		return withJob(c, args[0], read, func(s *station, job backfill.Job) error {
			described, err := status.DescribeJob(c.Context(), s.db, job)
			if err != nil {
				return err
			}
			all := shown{Job: described, Key: job.Spec.Key}
			if quarantined {
				if all.Quarantine, err = (&control.Jobs{DB: s.db}).Quarantine(c.Context(), job.ID, keys, mostQuarantined); err != nil {
					return err
				}
			}
			if keys {
				fmt.Fprintln(c.ErrOrStderr(), "keys are data: keep what follows out of logs and tickets")
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(all)
			}
			return all.print(c.OutOrStdout(), quarantined)
		})
	}
	return c
}

func (j shown) print(w io.Writer, quarantined bool) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("job", "%s", j.ID)
	line("columns", "%s of %s, by key (%s)", strings.Join(j.Columns, ", "), j.Table, strings.Join(j.Key, ", "))
	line("state", "%s", progressLine(j.Job))
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
		line("aside", "%s of %s, since %s: %s%s", q.Hash, q.Table, q.At.UTC().Format(time.RFC3339), q.Reason, j.keyOf(q))
	}
	if int64(len(j.Quarantine)) < j.Quarantined && quarantined {
		line("", "and %d more", j.Quarantined-int64(len(j.Quarantine)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// keyOf is the row's key, if it was asked for.
func (j shown) keyOf(q control.Quarantined) string {
	if len(q.Key) != len(j.Key) {
		return ""
	}
	parts := make([]string, len(j.Key))
	for i, name := range j.Key {
		parts[i] = fmt.Sprintf("%s = %q", name, q.Key[i])
	}
	return "; key " + strings.Join(parts, ", ")
}
