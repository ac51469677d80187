package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const jobLong = `Look at jobs, and have them under control: a job is one pass over a table, by as many workers as there are.

ls and show read Postgres alone: no more is needed than the right to read the tables of schema cipherfleet. pause,
resume, cancel and retry ask the coordinator by NATS_URL. Without it, and while no coordinator leads, they do it
themselves; while one leads they refuse. A job is named by its id, or by as much of its beginning as no other job has.

Exit codes: 0 done · 2 bad flag, name or environment · 4 refused, nothing changed: no such job, or its state does not
allow it · 5 retry: rows are in quarantine again · 6 Postgres or NATS unavailable, or no coordinator answers · 7 denied
· 75 retry: paused · 130 a second signal`

const jobExample = `  cipherfleet job ls
  cipherfleet job pause 3f2a
  cipherfleet job show 3f2a --quarantined
  cipherfleet job retry 3f2a --quarantined`

func newJob(read settings) *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "List, show, pause, resume, cancel and retry jobs", Long: jobLong, Example: jobExample}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(newJobList(read), newJobShow(read), newJobRetry(read),
		newJobVerb(read, verb{"pause", "paused", lifecycle.KindJobPaused, "Let no more chunks of a job commit, until it is resumed", atOnce, foreman.Pause}),
		newJobVerb(read, verb{"resume", "resumed", lifecycle.KindJobResumed, "Let a paused job go on where it stood", goesOn, foreman.Resume}),
		newJobVerb(read, verb{"cancel", "cancelled", lifecycle.KindJobCancelled, "End a job for good; what it has written stays", atOnce, foreman.Cancel}))
	return c
}

// foreman is who changes jobs: the coordinator at the other end of NATS, or this program alone.
type foreman interface {
	Pause(context.Context, messages.JobRequest) (messages.Job, error)
	Resume(context.Context, messages.JobRequest) (messages.Job, error)
	Cancel(context.Context, messages.JobRequest) (messages.Job, error)
}

// verb is one thing to do about a job.
type verb struct {
	name, done    string
	kind          lifecycle.Kind
	short, effect string
	do            func(foreman, context.Context, messages.JobRequest) (messages.Job, error)
}

const (
	verbLong = `%s.
%s
Asked for again, it changes nothing.

Exit codes: as of cipherfleet job`

	atOnce = "It takes effect at once: chunks in flight that have not committed are not committed any more."
	goesOn = "Workers take it up at once where a coordinator leads; else it goes on when one does, or by the command that began it."
)

func newJobVerb(read settings, v verb) *cobra.Command {
	dryRun, asJSON := false, false
	c := &cobra.Command{Use: v.name + " JOB", Short: v.short, Long: fmt.Sprintf(verbLong, v.short, v.effect), Example: "  cipherfleet job " + v.name + " 3f2a", Args: oneJob}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "check, say what would be done, and change nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print the job as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		return withJob(c, args[0], read, func(s *station, job work.Job) error {
			jobs, alone := &control.Jobs{DB: s.db}, s.config.NATSURL == ""
			if dryRun {
				return rehearse(c, jobs, job, v.kind, alone, "would be "+v.done)
			}
			var by foreman = jobs
			if !alone {
				if err := s.openQueue(c.Context(), "", 0); err != nil {
					return err
				}
				by = leader{s.queue}
			}
			request := messages.JobRequest{V: messages.Version, Job: job.ID}
			var err error
			if request.Actor, err = jobs.Actor(c.Context()); err != nil {
				return err
			}
			now, err := v.do(by, c.Context(), request)
			if err != nil {
				return err
			}
			if alone && v.kind == lifecycle.KindJobResumed {
				fmt.Fprintln(c.ErrOrStderr(), "no coordinator leads: it goes on when one does, with cipherfleet serve or cipherfleet backfill")
			}
			return printJob(c.OutOrStdout(), now, asJSON)
		})
	}
	return c
}

// oneJob wants a job's name.
func oneJob(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage(fmt.Errorf("%s takes one job, by its id or the beginning of it, but got %d arguments", c.CommandPath(), len(args)), c)
	}
	return nil
}

// withJob opens Postgres and finds the job.
func withJob(c *cobra.Command, prefix string, read settings, f func(*station, work.Job) error) error {
	config, err := read()
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", planeConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	job, err := (&control.Jobs{DB: s.db}).Find(c.Context(), prefix)
	if err != nil {
		return err
	}
	return f(s, job)
}

func rehearse(c *cobra.Command, jobs *control.Jobs, job work.Job, kind lifecycle.Kind, alone bool, would string) error {
	if err := jobs.Rehearse(c.Context(), job, kind, alone); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "job %s, which is %s, %s\nnothing was changed\n", job.ID, job.State, would)
	return nil
}

func printJob(w io.Writer, job messages.Job, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprintf(w, "%s %s\n", job.ID, page.Progress(job))
		return err
	}
	body, err := job.Marshal()
	if err == nil {
		_, err = fmt.Fprintln(w, string(body))
	}
	return err
}

func newJobList(read settings) *cobra.Command {
	limit, asJSON := 0, false
	c := &cobra.Command{Use: "ls", Short: "List the newest jobs", Example: "  cipherfleet job ls --limit 5", Args: noArgs,
		Long: "List the newest jobs first: table, state, how far they are, and what stopped them.\n\nExit codes: as of cipherfleet job"}
	c.Flags().IntVar(&limit, "limit", 20, "at most so many")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if limit < 1 {
			return usage(fmt.Errorf("--limit was %d; accepted is 1 or more", limit), c)
		}
		s, err := read.open(c)
		if err != nil {
			return err
		}
		defer s.close(c.Context())
		jobs, err := (&control.Jobs{DB: s.db}).List(c.Context(), limit)
		if err != nil {
			return err
		}
		return printJobs(c.OutOrStdout(), jobs, asJSON)
	}
	return c
}

func printJobs(w io.Writer, jobs []messages.Job, asJSON bool) error {
	if asJSON {
		body, err := messages.JobList{Jobs: jobs}.Marshal()
		if err == nil {
			_, err = fmt.Fprintln(w, string(body))
		}
		return err
	}
	return page.Jobs(w, jobs)
}
