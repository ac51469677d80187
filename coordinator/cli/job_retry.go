package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const jobRetryLong = `Try the rows again that a job left aside: the job goes on, sweeps its table from end to end, and is done, and proven,
if nothing resists any more. First mend what job show --quarantined names.

With NATS_URL the fleet does it, and this command follows. Without, this process does it itself. SIGINT drains and
pauses the job, which cipherfleet job resume lets go on.

Exit codes: 0 done, nothing is left · 2 bad flag, name or environment · 4 refused, nothing changed: the job has not
ended, has no row in quarantine, or a later job went over its columns · 5 rows are in quarantine again, or the job
failed · 6 Postgres, NATS or key unavailable · 7 denied · 75 paused · 130 a second signal`

func newJobRetry(read settings) *cobra.Command {
	o, quarantined := &backfillOptions{}, false
	c := &cobra.Command{Use: "retry JOB --quarantined", Short: "Try the rows again that a job left aside", Long: jobRetryLong,
		Example: "  cipherfleet job retry 3f2a --quarantined", Args: oneJob, DisableFlagsInUseLine: true}
	c.Flags().BoolVar(&quarantined, "quarantined", false, "the rows in quarantine: what there is to try again")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "check, say what would be done, and change nothing")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print the job as JSON when it has ended")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !quarantined {
			return usage(errors.New("--quarantined is missing: it says what is tried again"), c)
		}
		return withJob(c, args[0], read, func(s *station, job work.Job) error { return o.retry(c, s, job) })
	}
	return c
}

func (o *backfillOptions) retry(c *cobra.Command, s *station, job work.Job) error {
	jobs, alone := &control.Jobs{DB: s.db}, s.config.NATSURL == ""
	if o.dryRun {
		return rehearse(c, jobs, job, lifecycle.KindBackfillStarted, alone, "would try its quarantine again")
	}
	if alone { // before anything leads
		if err := jobs.Rehearse(c.Context(), job, lifecycle.KindBackfillStarted, alone); err != nil {
			return err
		}
	}
	actor, err := jobs.Actor(c.Context())
	if err != nil {
		return err
	}
	o.again = messages.RetryRequest{V: messages.Version, Job: job.ID, Quarantined: true, Actor: actor}
	work, drain, stop := app.Signals(c.Context(), s.config.Drain, s.log)
	defer stop()
	if alone {
		err = o.inProcess(work, drain, c, s)
	} else {
		err = o.inFleet(work, drain, c, s)
	}
	if short := cutShort(work); err != nil && short != nil {
		return short
	}
	return err
}
