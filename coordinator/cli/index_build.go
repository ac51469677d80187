package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
)

const indexBuildLong = `Make a blind index ready. First the fleet opens each cell whose row has no token, makes that of its value in its normal
form, and writes it only if nobody else wrote the row meanwhile; a sweep proves that nothing is left. Then Postgres
builds the index of the tokens, beside readers and writers; one that an earlier build left invalid is taken away before.

Of a partitioned table every partition's index is built, one after the other, and then joined into one under a lock that
lets readers go on; killed in between, the same command goes on behind those that are done. Run it behind ATTACH
PARTITION, too: nobody has counted the rows that a partition brings along.

The column has to be backfilled, cut over or dropped. Where nothing has changed since the last time, nothing is done.

With --unique in index new, rows whose values are equal in their normal form keep it from being: how many they are is
said, never a value or a token, and with --keys the keys of such rows, in groups.

With NATS_URL the job is started in the fleet and followed. Without, this process does everything itself. A job that the
fleet began by itself over the same table is waited for, two minutes at most. SIGINT drains.

Exit codes: as of cipherfleet index`

const indexBuildExample = `  cipherfleet index build users.email email_bidx --dry-run
  cipherfleet index build users.email email_bidx
  cipherfleet index build users.email email_bidx --keys --json`

type indexBuildOptions struct {
	index   oneIndex
	request messages.StartRequest
	reason  string
	keys    bool
	dryRun  bool
	asJSON  bool
}

func newIndexBuild(read settings) *cobra.Command {
	o := &indexBuildOptions{}
	c := &cobra.Command{Use: "build TABLE.COLUMN NAME", Short: "Fill a blind index and have Postgres build it", Long: indexBuildLong, Example: indexBuildExample}
	f := c.Flags()
	o.index.flags(c)
	f.IntVar(&o.request.ChunkRows, "chunk-rows", 0, "most rows in one transaction (default 5000)")
	f.StringVar(&o.request.UserTriggers, "user-triggers", "", "fire or skip: what becomes of the table's own triggers when tokens are written (default: as in the column's last job)")
	f.StringVar(&o.reason, "reason", "", "why, for the log")
	f.BoolVar(&o.keys, "keys", false, "if rows share a token of a unique index, print their keys")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, say what would be done, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print what was done as JSON")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args, read) }
	return c
}

func (o *indexBuildOptions) run(c *cobra.Command, args []string, read settings) error {
	if err := o.index.read(c, args); err != nil {
		return err
	}
	config, err := read()
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", planeConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	r := &index.Registry{DB: s.db, Reason: o.reason}
	p, patience := index.BuildPlan{}, s.patience(c.ErrOrStderr())
	look := func(generation int) error {
		return patience.Through(c.Context(), func() (err error) {
			p, err = r.PlanBuild(c.Context(), o.index.of, o.index.name, generation)
			return err
		})
	}
	if err := look(o.index.generation); err != nil {
		return err
	}
	request := p.Request(uuid.NewString())
	request.ChunkRows, request.UserTriggers = o.request.ChunkRows, o.request.UserTriggers
	if err := invalid(request.Validate(), c); err != nil {
		return err
	}
	o.request = request
	done := indexDone{V: messages.Version, Table: p.Table, Column: p.Column, DryRun: o.dryRun, Change: !p.Already, Index: p.Index}
	if o.dryRun || p.Already {
		return o.announce(c, s, p, done)
	}
	if !p.Filled {
		if done.Job, err = o.fill(c, s); err != nil {
			return err
		}
		if err := look(p.Index.Generation); err != nil {
			return err
		}
	}
	done.Index, err = r.Build(c.Context(), p, o.keys)
	var doubled *index.DoubledError
	if errors.As(err, &doubled) {
		done.Doubled = &doubled.Doubled
		return errors.Join(o.double(c, done), err)
	}
	if err != nil {
		return err
	}
	return o.print(c, done)
}

// announce says what would be done, or that nothing is.
func (o *indexBuildOptions) announce(c *cobra.Command, s *station, p index.BuildPlan, done indexDone) error {
	if !p.Filled {
		if _, err := index.PlanFill(c.Context(), s.db, o.request); err != nil {
			return err
		}
		fmt.Fprintf(c.ErrOrStderr(), "would have the fleet write the tokens that are missing in %s\n", p.Table)
	}
	for _, statement := range p.Statements {
		fmt.Fprintln(c.ErrOrStderr(), statement+";")
	}
	return o.print(c, done)
}

// fill has the job done, in the fleet or here.
func (o *indexBuildOptions) fill(c *cobra.Command, s *station) (*messages.Job, error) {
	work, drain, stop := app.Signals(c.Context(), s.config.Drain, s.log)
	defer stop()
	var ended messages.Job
	job := &backfillOptions{request: o.request}
	job.outcome = func(j messages.Job) error {
		ended = j
		return o.unfilled(j)
	}
	run := job.inProcess
	if s.config.NATSURL != "" {
		run = job.inFleet
	}
	err := run(work, drain, c, s)
	if short := cutShort(work); err != nil && short != nil {
		err = short
	}
	return &ended, errors.Join(err, context.Cause(c.Context()))
}

// unfilled is the outcome of a job that is not done.
func (o *indexBuildOptions) unfilled(job messages.Job) error {
	again := o.index.of.Command("index build") + " " + o.index.name
	switch state := work.State(job.State); {
	case state == work.Done:
		return nil
	case state == work.Paused:
		return &app.Fail{Code: app.CodePaused, Err: fmt.Errorf("paused after %d rows", job.Rows), Hint: again + " resumes"}
	case state == work.Cancelled:
		return &app.Fail{Code: app.CodePaused, Err: errors.New("the job was cancelled"), Hint: again + " starts a new one, which goes on with what is left"}
	case job.Quarantined > 0:
		return &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("the job failed: %s", job.StoppedBy),
			Hint: fmt.Sprintf("cipherfleet job show %s --quarantined --keys names the rows; mend them, then %s", job.ID, again)}
	}
	return &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("the job failed: %s", job.StoppedBy), Hint: "mend what it names; " + again + " starts a new job, which goes on with what is left"}
}

// double prints the rows that keep an index from being unique, if their keys were asked for.
func (o *indexBuildOptions) double(c *cobra.Command, done indexDone) error {
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(done)
	}
	for _, key := range done.Doubled.Groups {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "group %s: key %s\n", key[0], strings.Join(key[1:], ", ")); err != nil {
			return err
		}
	}
	return nil
}

func (o *indexBuildOptions) print(c *cobra.Command, done indexDone) (err error) {
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(done)
	}
	of, x := done.Table+"."+done.Column, done.Index
	switch {
	case !done.Change:
		_, err = fmt.Fprintf(c.OutOrStdout(), "blind index %s of %s is ready already\n", x.Name, of)
	case done.DryRun:
		_, err = fmt.Fprintf(c.OutOrStdout(), "blind index %s of %s would be built; nothing was changed\n", x.Name, of)
	default:
		rows := ""
		if done.Job != nil {
			rows = fmt.Sprintf(" (%d tokens written)", done.Job.Rows)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "blind index %s of %s is ready%s: %s\n", x.Name, of, rows, page.IndexLine(x))
	}
	return err
}
