package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
)

const jobShowLong = `Show one job: what it does, how far it is, and what stopped it. --quarantined lists the rows that it left aside, with
the reason of each and a hash of its key, as logs and reports name the row. Keys are data: they are shown only with
--keys, and the output is to be handled as what it is. Mend what the reasons name, then cipherfleet job retry.

Exit codes: as of cipherfleet job`

const mostQuarantined = 1000 // rows that are shown of one job

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
		return withJob(c, args[0], read, func(s *station, job work.Job) error {
			described, err := status.DescribeJob(c.Context(), s.db, job)
			if err != nil {
				return err
			}
			all := page.Shown{Job: described, Key: job.Spec.Key}
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
			return page.Job(c.OutOrStdout(), all, quarantined)
		})
	}
	return c
}
