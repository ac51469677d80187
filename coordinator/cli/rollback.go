package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/restore"
	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const rollbackLong = `Go back to the plaintext of a column, from any phase before dropped.

After a cutover the cells that were written since are opened into the plaintext first, by the fleet (NATS_URL) or by
this process. Then one transaction looks again under the lock, swaps the names back, restores default, NOT NULL,
comments and rights, and puts capture in place: the column is backfilled, and can be cut over again. No write is lost:
a row that was written between the job and the lock sends it back to the job. Rows whose cells do not open are named in
quarantine, and nothing is swapped. Where cipherfleet decrypt brought the plaintext of a dropped column back, and was
killed, it waits as that does for programs that have not noticed (--wait).

Before a cutover the capture triggers and the CHECK are dropped: the column is schema-added. Its target stays with its
cells unless --drop-target is given; nothing notices then who misses them, and the next backfill compares each of them
with its source. After a rolled-back cutover that takes --to schema-added, so that repeating a
command that was killed does not go further than it would have.

--rehearse does a cutover and its rollback to an empty copy of the table inside one transaction, which is taken back:
it shows every statement, and how long the table would be locked.

A job that the fleet began by itself over the same table is waited for, two minutes at most. Killed at any moment, the
same command goes on. SIGINT drains the job and pauses it.

Exit codes: 0 rolled back, or it was already · 2 bad flag, name or environment · 3 the column is written faster than its
cells are opened, or a program has not noticed a decryption · 4 refused, nothing changed · 5 rows are in quarantine, or
the job failed · 6 Postgres, NATS or key unavailable · 7 denied · 75 paused, the same command resumes · 130 a second
signal, the same command resumes`

const rollbackExample = `  cipherfleet rollback users.email --dry-run
  cipherfleet rollback users.email --reason "reports read the old column"
  cipherfleet rollback users.email --rehearse
  cipherfleet rollback users.email --to schema-added --drop-target`

type rollbackOptions struct {
	column   oneColumn
	request  ladder.RollbackRequest
	to       string
	wait     time.Duration
	rehearse bool
	dryRun   bool
	asJSON   bool
}

func newRollback(read settings) *cobra.Command {
	o := &rollbackOptions{}
	c := &cobra.Command{Use: "rollback [TABLE.COLUMN]", Short: "Go back to the plaintext of a column", Long: rollbackLong, Example: rollbackExample, DisableFlagsInUseLine: true}
	f := c.Flags()
	o.column.flags(f)
	f.StringVar(&o.to, "to", "", "schema-added: also after a cutover was rolled back (default: one rung)")
	f.StringVar(&o.request.Reason, "reason", "", "why, for the log; needed where nobody watched for cells written since the cutover")
	f.BoolVar(&o.request.DropTarget, "drop-target", false, "before a cutover: drop the target column too, with its cells")
	f.StringVar(&o.request.UserTriggers, "user-triggers", "", "fire or skip: what becomes of the table's own triggers when cells are opened (default: as in its last job)")
	o.waits(f)
	f.BoolVar(&o.rehearse, "rehearse", false, "do a cutover and a rollback to an empty copy of the table, say how long each step takes, and take it all back")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, say what would be done, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print what was done as JSON")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args, read) }
	return c
}

// waits adds the flag for how long to wait for programs that have not noticed a decryption.
func (o *rollbackOptions) waits(f *pflag.FlagSet) {
	f.DurationVar(&o.wait, "wait", time.Minute, "how long to wait for programs that have not noticed that the plaintext of a dropped column is back")
}

func (o *rollbackOptions) run(c *cobra.Command, args []string, read settings) (err error) {
	if o.request.Name, err = o.column.name(c, args); err != nil {
		return err
	}
	if o.wait < 0 {
		return usage(errors.New("--wait was below zero; accepted is a duration, as in 90s"), c)
	}
	o.request.To = lifecycle.Phase(o.to)
	config, err := read()
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	l := &ladder.Ladder{DB: s.db}
	if o.rehearse {
		return o.runRehearsal(c, l)
	}
	plan, err := l.PlanRollback(c.Context(), o.request)
	if err != nil {
		return err
	}
	if o.dryRun {
		return o.announce(c, plan)
	}
	if plan.State.Phase == lifecycle.PhaseCutOver && !plan.Already {
		if err := scheme.Await(c.Context(), o.wait, func() error { return restore.Noticed(c.Context(), s.db, plan.Standing) }); err != nil {
			return err
		}
	}
	if plan.State.Phase == lifecycle.PhaseCutOver && plan.Expression == nil {
		switch err := s.openKey(c.Context()); {
		case err == nil:
			l.KEK = s.kek
		case config.NATSURL == "": // else the fleet has it, and opens every cell
			return err
		}
	}
	work, drain, stop := app.Signals(c.Context(), config.Drain, s.log)
	defer stop()
	o.request.Reverse = func(ctx context.Context) error { return o.reverse(ctx, drain, c, config) }
	var result ladder.Rollback
	err = s.patience(c.ErrOrStderr()).Through(drain, func() (err error) {
		if plan, err = l.PlanRollback(work, o.request); err == nil {
			result, err = l.Rollback(work, plan, o.request)
		}
		return err
	})
	if short := cutShort(work); err != nil && short != nil {
		return short
	}
	if err != nil {
		return err
	}
	if result.From == lifecycle.PhaseCutOver && !result.Already {
		tellProxy(work, c.ErrOrStderr(), config, l, o.request.Name)
	}
	return o.print(c.OutOrStdout(), result)
}

// runRehearsal prints what a rehearsal took.
func (o *rollbackOptions) runRehearsal(c *cobra.Command, l *ladder.Ladder) error {
	r, err := l.Rehearse(c.Context(), o.request.Name)
	if err != nil {
		return err
	}
	if o.asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(r)
	} else {
		err = page.Rehearsal(c.OutOrStdout(), r)
	}
	if err == nil && !r.Same {
		err = &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("the copy of %s did not end as it began", r.Table), Hint: "do not cut over; --json shows the statements: please report them"}
	}
	return err
}

const nextRung = "next: --to schema-added takes back what was prepared, too, and --drop-target with it the column of cells"

// announce says what would be done.
func (o *rollbackOptions) announce(c *cobra.Command, plan ladder.RollbackPlan) error {
	w := c.ErrOrStderr()
	if plan.Already {
		fmt.Fprintln(w, "nothing is left to take back")
		if plan.To == lifecycle.PhaseBackfilled {
			fmt.Fprintln(w, nextRung)
		}
	} else {
		fmt.Fprintf(w, "roll %s.%s back from %s to %s\n", plan.Relation.Table(), plan.Source, plan.State.Phase, plan.To)
	}
	for _, step := range plan.Steps {
		fmt.Fprintln(w, "  "+step)
	}
	fmt.Fprintln(w, "nothing was changed")
	if !o.asJSON {
		return nil
	}
	return json.NewEncoder(c.OutOrStdout()).Encode(struct {
		V       int             `json:"v"`
		Table   string          `json:"table"`
		Column  string          `json:"column"`
		From    lifecycle.Phase `json:"from"`
		To      lifecycle.Phase `json:"to"`
		Already bool            `json:"already"`
		Steps   []string        `json:"steps"`
	}{messages.Version, plan.Relation.Table().String(), plan.Source, plan.State.Phase, plan.To, plan.Already, append([]string{}, plan.Steps...)})
}

func (o *rollbackOptions) print(w io.Writer, r ladder.Rollback) error {
	if o.asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	var err error
	switch {
	case r.Already:
		_, err = fmt.Fprintf(w, "%s.%s is rolled back already: it is %s\n", r.Table, r.Column, r.To)
		if err == nil && r.To == lifecycle.PhaseBackfilled {
			_, err = fmt.Fprintln(w, nextRung)
		}
	case r.From == lifecycle.PhaseCutOver:
		_, err = fmt.Fprintf(w, "rolled %s.%s back from cut-over to %s; the table was locked for %.1f ms\n", r.Table, r.Column, r.To, r.Locked)
	default:
		_, err = fmt.Fprintf(w, "rolled %s.%s back from %s to %s: nothing guards its target any more\n", r.Table, r.Column, r.From, r.To)
	}
	return err
}

// reverse runs the job that opens cells, in the fleet or here.
func (o *rollbackOptions) reverse(work, drain context.Context, c *cobra.Command, config app.Coordinator) error {
	s, err := openBase(work, config, c.ErrOrStderr(), "cipherfleet", planeConns)
	if err != nil {
		return err
	}
	defer s.close(work)
	name := o.request.Name
	job := &backfillOptions{outcome: opened, request: messages.StartRequest{V: messages.Version, RequestID: uuid.NewString(), Direction: messages.DirectionReverse,
		Schema: name.Schema, Table: name.Table, Columns: []messages.ColumnRequest{{Source: name.Column}}, UserTriggers: o.request.UserTriggers}}
	if err := invalid(job.request.Validate(), c); err != nil {
		return err
	}
	if config.NATSURL != "" {
		return job.inFleet(work, drain, c, s)
	}
	return job.inProcess(work, drain, c, s)
}

// opened is the end of that job.
func opened(job messages.Job) error {
	switch work.State(job.State) {
	case work.Done:
		return nil
	case work.Paused:
		return &app.Fail{Code: app.CodePaused, Err: fmt.Errorf("paused after %d rows; the column is still cut over", job.Rows), Hint: "the same command resumes"}
	case work.Cancelled:
		return &app.Fail{Code: app.CodePaused, Err: errors.New("the job was cancelled; the column is still cut over"), Hint: "the same command starts a new one, which goes on with what is left"}
	}
	err := fmt.Errorf("the column is still cut over: the job that opens its cells failed: %s", job.StoppedBy)
	if job.Quarantined == 0 {
		return &app.Fail{Code: app.CodeUnproven, Err: err, Hint: mendHint(job) + ", and repeat the command"}
	}
	return &app.Fail{Code: app.CodeUnproven, Err: err, Hint: fmt.Sprintf("cipherfleet job show %s --quarantined --keys names the rows; "+
		"write their cells anew through the application, or put in the plaintext that is right, and repeat the command", job.ID)}
}
