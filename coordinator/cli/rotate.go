package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const rotateLong = `Seal every cell of a column anew under another scheme: another key, suite, padding, binding or null policy.

Applications go on meanwhile, and none is restarted. First the scheme becomes the one that cells are sealed with, as
soon as every program that holds a lease can read it; those that cannot yet are named and waited for. Then the fleet
opens each cell of any other scheme, seals its value under the new one, opens that again and compares, and writes it
only if nobody else wrote the row meanwhile. A sweep proves that nothing is left. It works in every phase from
dual-writing to dropped, and the phase stays as it is. Under a scheme that seals NULL rows of NULL get cells, too; under
one that keeps it cells that hold NULL are taken away.

A cell that does not open is left as it is and named in quarantine: it is neither passed over nor sealed as if it were
data. When nothing is left of an old scheme, cipherfleet scheme retire takes it away, proved by Postgres.

With NATS_URL the job is started in the fleet and followed. Without, this process does everything itself. A job that the
fleet began by itself over the same table is waited for, two minutes at most. SIGINT drains: chunks in hand commit, the
rest stays; the same command resumes.

Exit codes: 0 rotated, no cell of another scheme is left · 2 bad flag, name or environment · 3 somebody cannot read the
scheme yet, nothing changed · 4 refused, nothing changed · 5 rows in quarantine or the job failed · 6 Postgres, NATS or
key unavailable · 7 denied · 75 paused, the same command resumes · 130 a second signal, the same command resumes`

const rotateExample = `  cipherfleet rotate users.email --dry-run
  cipherfleet rotate users.email --to 3
  cipherfleet rotate --table users --column email --json`

type rotateOptions struct {
	column   oneColumn
	request  messages.StartRequest
	patience time.Duration
	dryRun   bool
	asJSON   bool
}

func newRotate(read settings) *cobra.Command {
	o := &rotateOptions{}
	c := &cobra.Command{Use: "rotate [TABLE.COLUMN]", Short: "Seal every cell of a column anew under another scheme", Long: rotateLong, Example: rotateExample, DisableFlagsInUseLine: true}
	f := c.Flags()
	o.column.flags(f)
	f.IntVar(&o.request.Scheme, "to", 0, "number of the scheme (default: the newest that can be read)")
	f.IntVar(&o.request.ChunkRows, "chunk-rows", 0, "most rows in one transaction (default 5000)")
	f.StringVar(&o.request.UserTriggers, "user-triggers", "", "fire or skip: what becomes of the table's own triggers when cells are written (default: as in its last job)")
	f.DurationVar(&o.patience, "wait", time.Minute, "how long to wait for programs that cannot read the scheme yet")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, say what would be done, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print what was done as JSON")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args, read) }
	return c
}

func (o *rotateOptions) run(c *cobra.Command, args []string, read settings) error {
	name, err := o.column.name(c, args)
	if err != nil {
		return err
	}
	o.request.V, o.request.RequestID, o.request.Direction = messages.Version, uuid.NewString(), messages.DirectionRotate
	o.request.Schema, o.request.Table, o.request.Columns = name.Schema, name.Table, []messages.ColumnRequest{{Source: name.Column}}
	if err := invalid(o.request.Validate(), c); err != nil {
		return err
	}
	if o.patience < 0 {
		return usage(errors.New("--wait was below zero; accepted is a duration, as in 90s"), c)
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
	plan, err := ladder.PlanRotation(c.Context(), s.db, o.request)
	if err != nil {
		return err
	}
	if err := o.announce(c, s, plan); err != nil || o.dryRun {
		return err
	}
	return o.execute(c, s, plan)
}

// rotation is what --json prints.
type rotation struct {
	V       int                 `json:"v"`
	Table   string              `json:"table"`
	Column  string              `json:"column"`
	Phase   lifecycle.Phase     `json:"phase"`
	Scheme  uint16              `json:"scheme"`  // what cells are sealed under now
	Schemes []status.SchemeRows `json:"schemes"` // how many cells are of each scheme
	Exact   bool                `json:"exact"`   // each was counted; else estimated
	Waiting []string            `json:"waiting"` // whose keys are too old to read the scheme
	Job     *messages.Job       `json:"job"`     // null: none was started
}

// look says how the cells stand now.
func (o *rotateOptions) look(ctx context.Context, s *station, plan ladder.RotationPlan) (r rotation, err error) {
	r = rotation{V: messages.Version, Table: plan.Relation.Table().String(), Column: plan.Source, Phase: plan.State.Phase, Scheme: plan.To.Number,
		Schemes: []status.SchemeRows{}, Waiting: []string{}}
	report, err := status.Read(ctx, s.db, status.Request{Table: r.Table})
	if err != nil {
		return r, err
	}
	for _, column := range report.Columns {
		if column.ID == plan.ID && column.Schemes != nil {
			r.Schemes, r.Exact = column.Schemes, column.Coverage.Exact
		}
	}
	leases, err := lifecycle.Live(ctx, s.db)
	for _, lease := range leases {
		if lease.Revision < plan.To.Revision {
			r.Waiting = append(r.Waiting, lease.ID)
		}
	}
	return r, err
}

// announce says what is about to be done.
func (o *rotateOptions) announce(c *cobra.Command, s *station, plan ladder.RotationPlan) error {
	r, err := o.look(c.Context(), s, plan)
	if err != nil {
		return err
	}
	w := c.ErrOrStderr()
	fmt.Fprintf(w, "rotate %s.%s (%s) to scheme %d, which is %s; key %s; about %d rows; cells now: %s\n",
		r.Table, r.Column, r.Phase, r.Scheme, plan.To.State, strings.Join(plan.Job.Key.Names(), ", "), plan.Relation.Rows(), schemesWord(r))
	if !o.dryRun {
		return nil
	}
	if plan.To.State != lifecycle.SchemeActive {
		fmt.Fprintf(w, "  have cells sealed under scheme %d from now on\n", r.Scheme)
		for _, id := range r.Waiting {
			fmt.Fprintf(w, "  first wait for %s, whose keys are too old to read it\n", id)
		}
	}
	fmt.Fprintln(w, "nothing was changed")
	if !o.asJSON {
		return nil
	}
	return json.NewEncoder(c.OutOrStdout()).Encode(r)
}

// schemesWord is how many cells are of each scheme.
func schemesWord(r rotation) string {
	if len(r.Schemes) == 0 {
		return "none"
	}
	about := "about "
	if r.Exact {
		about = ""
	}
	words := make([]string, len(r.Schemes))
	for i, of := range r.Schemes {
		words[i] = fmt.Sprintf("%s%d of scheme %d", about, of.Rows, of.Number)
	}
	return strings.Join(words, ", ")
}

// execute has the job done, in the fleet or here.
func (o *rotateOptions) execute(c *cobra.Command, s *station, plan ladder.RotationPlan) error {
	work, drain, stop := app.Signals(c.Context(), s.config.Drain, s.log)
	defer stop()
	job := &backfillOptions{request: o.request, early: o.waiter(c.ErrOrStderr())}
	job.outcome = func(ended messages.Job) error { return o.end(work, c.OutOrStdout(), s, plan, ended) }
	run := job.inProcess
	if s.config.NATSURL != "" {
		run = job.inFleet
	}
	err := run(work, drain, c, s)
	if short := cutShort(work); err != nil && short != nil {
		return short
	}
	return err
}

const waitEvery = time.Second

// waiter waits, for as long as it may, for whoever cannot read the scheme yet.
func (o *rotateOptions) waiter(w io.Writer) func(context.Context, error) bool {
	until, told := time.Now().Add(o.patience), ""
	return func(ctx context.Context, err error) bool {
		var problem *messages.Problem
		if !errors.As(err, &problem) || problem.Code != messages.CodeWaiting || time.Now().After(until) {
			return false
		}
		if problem.Message != told {
			told = problem.Message
			fmt.Fprintln(w, "waiting: "+told)
		}
		timer := time.NewTimer(waitEvery)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		}
	}
}

// end prints how it ended and turns it into the command's outcome.
func (o *rotateOptions) end(ctx context.Context, w io.Writer, s *station, plan ladder.RotationPlan, job messages.Job) error {
	r, err := o.look(context.WithoutCancel(ctx), s, plan)
	if err != nil {
		return err
	}
	r.Job = &job
	name := r.Table + "." + r.Column
	done := work.State(job.State) == work.Done
	switch {
	case o.asJSON:
		err = json.NewEncoder(w).Encode(r)
	case done:
		_, err = fmt.Fprintf(w, "rotated %s to scheme %d: %d rows in %v; no cell of another scheme was left\n", name, r.Scheme, job.Rows, time.Since(job.CreatedAt).Round(time.Millisecond))
	default:
		_, err = fmt.Fprintf(w, "%s is not rotated yet; cells now: %s\n", name, schemesWord(r))
	}
	if err != nil || done {
		return err
	}
	return unrotated(plan, job)
}

// unrotated is the outcome of a job that is not done.
func unrotated(plan ladder.RotationPlan, job messages.Job) error {
	again := standing.Name{Schema: plan.Relation.Schema, Table: plan.Relation.Name, Column: plan.Source}.Command("rotate") + fmt.Sprintf(" --to %d", plan.To.Number)
	switch {
	case work.State(job.State) == work.Paused:
		return &app.Fail{Code: app.CodePaused, Err: fmt.Errorf("paused after %d rows", job.Rows), Hint: again + " resumes"}
	case work.State(job.State) == work.Cancelled:
		return &app.Fail{Code: app.CodePaused, Err: errors.New("the job was cancelled"), Hint: again + " starts a new one, which goes on with what is left"}
	case job.Quarantined > 0:
		return &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("the job failed: %s", job.StoppedBy),
			Hint: fmt.Sprintf("cipherfleet job show %s --quarantined --keys names the rows, and why; write their cells anew through the application, or, where the key was destroyed, "+
				"delete the rows or set their cells to NULL; then cipherfleet job retry %s --quarantined", job.ID, job.ID)}
	}
	return &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("the job failed: %s", job.StoppedBy), Hint: mendHint(job) + "; " + again + " starts a new job, which goes on with what is left"}
}
