package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const backfillLong = `Encrypt columns of one table in place, while applications go on using it.

First everything is checked, and nothing is changed if something stands in the way. Then the missing rungs are
climbed, each recorded: the target column (with --prepare), the column's id and key, a CHECK that lets only cells into
the target, and the capture triggers that notice writes which miss it, or with --strict let them fail. Then the rows
are encrypted, range by range and chunk by chunk, and swept until nothing is uncovered. Cells that are there from a time
when nothing noticed who missed them, as after a rollback, are opened and compared with their sources, and those of
another value are sealed anew.

With NATS_URL the job is started in the fleet and followed. Without, this process does everything itself. A job that the
fleet began by itself over the same table is waited for, two minutes at most. SIGINT drains: chunks in hand commit, the
rest stays; the same command resumes.

A column that another system encrypted is opened and sealed as the manifest says (transform: reencrypt,
docs/foreign.md). With --transform reencrypt --from cipherfleet cells of ours move into a column of another type.

The same engine makes values of values inside Postgres, without any key: with --transform expression those of an
expression over the row, with --transform copy the source's own. docs/transforms.md says which rows are done, and how.

With --where, or where: in the manifest, only rows that meet a condition are encrypted. It must be immutable; rows that
come to meet it later are noticed and swept, and such a column cannot cut over. --where true is every row again, and so
is a manifest that names the column without a where:. With neither the last job's condition holds.

Names are literal: upper and lower case differ, and nothing is quoted.

Exit codes: 0 backfilled · 2 bad flag, environment or manifest · 4 refused, nothing changed · 5 rows in quarantine or
the job failed · 6 Postgres, NATS or key unavailable · 7 denied · 75 paused, the same command resumes · 130 a second
signal, the same command resumes`

const backfillExample = `  cipherfleet backfill --table users --column email --prepare
  cipherfleet backfill --schema crm --table "Contacts" --column phone --target phone_sealed --dry-run
  cipherfleet backfill --table users --column email --user-triggers fire --json
  cipherfleet backfill --table users --column email --where "length(email) > 4" --prepare
  cipherfleet backfill --table users --column email --target email_norm --transform expression --expression 'lower(btrim(email))' --prepare
  cipherfleet backfill --table users --column email --target email_text --type text --transform reencrypt --from cipherfleet --prepare
  cipherfleet backfill --table orders --column id4 --target id8 --transform copy --type bigint --prepare`

type backfillOptions struct {
	request messages.StartRequest
	again   messages.RetryRequest // with a job: that one is tried again instead
	scope   scope
	maker   maker
	dryRun  bool
	keyless bool // nothing is to be sealed
	asJSON  bool
	outcome func(messages.Job) error // what becomes of the job's end; nil: it is printed
	// early waits after a refusal for what the job needs, and says whether to ask once more; nil: never
	early func(context.Context, error) bool
}

func newBackfill(read settings) *cobra.Command {
	o := &backfillOptions{}
	c := &cobra.Command{Use: "backfill", SuggestFor: []string{"encrypt"}, Short: "Encrypt columns of a table in place", Long: backfillLong, Example: backfillExample, Args: noArgs}
	f := c.Flags()
	o.scope.flags(f)
	o.scope.targetFlags(f)
	o.maker.flags(f)
	f.StringSliceVar(&o.request.Key, "key", nil, "columns of the unique key to walk by (default: the primary key, else a NOT NULL unique index)")
	f.IntVar(&o.request.ChunkRows, "chunk-rows", 0, "most rows in one transaction (default: the manifest's fleet.chunk.rows, else 5000)")
	f.BoolVar(&o.request.Prepare, "prepare", false, "add a target column that is missing")
	f.StringVar(&o.request.UserTriggers, "user-triggers", "", "fire or skip: what becomes of the table's own triggers when rows are encrypted (default: as the manifest's fleet has it)")
	f.BoolVar(&o.request.Strict, "strict", false, "from now on let a write fail that misses a target, with constraint cipherfleet_<id>_strict")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, say what would be done, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print the job as JSON when it has ended")
	c.RunE = func(c *cobra.Command, _ []string) error { return o.run(c, read) }
	return c
}

// fill completes the request from the flags.
func (o *backfillOptions) fill(c *cobra.Command) error {
	if err := required(c, "table", "column"); err != nil {
		return err
	}
	if err := o.scope.fill(&o.request, c); err != nil {
		return err
	}
	o.maker.fill(&o.request, o.scope.targets)
	o.request.V, o.request.RequestID = messages.Version, uuid.NewString()
	return invalid(o.request.Validate(), c)
}

func (o *backfillOptions) run(c *cobra.Command, read settings) error {
	if err := o.fill(c); err != nil {
		return err
	}
	config, err := read()
	if err == nil {
		err = o.maker.fromManifest(&o.request, config.Manifest, o.scope.targets)
	}
	if err == nil {
		err = o.fromFleet(config.Manifest)
	}
	if err != nil {
		return err
	}
	return o.execute(c, config)
}

// fromFleet takes what flags leave out from the manifest's fleet. Without a manifest nothing happens.
func (o *backfillOptions) fromFleet(path string) error {
	file, err := loadManifest(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if rows := file.Fleet.Chunk.Rows; rows != manifest.Default().Fleet.Chunk.Rows {
		o.request.ChunkRows = cmp.Or(o.request.ChunkRows, rows)
	}
	o.request.UserTriggers = cmp.Or(o.request.UserTriggers, file.Fleet.UserTriggers)
	return nil
}

// execute checks the request and has the job done, in the fleet or here.
func (o *backfillOptions) execute(c *cobra.Command, config app.Coordinator) error {
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", planeConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	work, drain, stop := app.Signals(c.Context(), config.Drain, s.log)
	defer stop()
	plan, err := preflight.Check(work, s.db, o.request)
	if err == nil && config.NATSURL == "" {
		err = withoutFleet(work, plan, s)
	}
	if err != nil {
		return err
	}
	o.keyless = o.again.Job == "" && !slices.ContainsFunc(plan.Columns, preflight.Column.Sealed)
	fmt.Fprintln(c.ErrOrStderr(), announce(plan, o.request))
	for _, warning := range warnings(plan) {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+warning)
	}
	if o.dryRun {
		for _, rung := range rungs(plan, o.request.Strict) {
			fmt.Fprintln(c.ErrOrStderr(), "  "+rung)
		}
		fmt.Fprintln(c.ErrOrStderr(), "nothing was changed")
		return nil
	}
	if config.NATSURL != "" {
		err = o.inFleet(work, drain, c, s)
	} else {
		err = o.inProcess(work, drain, c, s)
	}
	if short := cutShort(work); err != nil && short != nil {
		return short
	}
	return err
}

// announce is the one line that says what is about to be done.
func announce(p preflight.Plan, r messages.StartRequest) string {
	columns := make([]string, len(p.Columns))
	for i, c := range p.Columns {
		columns[i] = fmt.Sprintf("%s (%s, codec %s) into %s", c.Source.Name, c.Source.Type, c.Codec, c.Target.Name)
		if c.Origin != nil {
			columns[i] = fmt.Sprintf("%s (%s, plaintext %s, codec %s) into %s", strings.Join(append([]string{c.Source.Name}, c.Origin.Names()...), ", "), c.Origin.Format, c.Origin.PlaintextType(), c.Codec, c.Target.Name)
		}
		if c.Origin.Own() {
			columns[i] = fmt.Sprintf("the cells in %s (%s, codec %s) into %s (%s)", c.Source.Name, c.Source.Type, c.Codec, c.Target.Name, c.Form())
		}
		if c.Made() {
			columns[i] = fmt.Sprintf("%s into %s (%s)", c.Expression.SQL, c.Target.Name, c.Expression.Type)
		}
		if c.Foreign() {
			columns[i] = fmt.Sprintf("%s (%s, as plaintext, through the proxy) into %s", c.Source.Name, c.Source.Type, c.Target.Name)
		}
		if c.External.Subject != "" {
			columns[i] = fmt.Sprintf("%s (%s, as text, to the encrypter on %s) into %s", c.Source.Name, c.Source.Type, c.External.Subject, c.Target.Name)
		}
	}
	limits := work.Limits{Rows: r.ChunkRows}.WithDefaults()
	verb := "encrypt"
	if !slices.ContainsFunc(p.Columns, func(c preflight.Column) bool { return !c.Made() }) {
		verb = "change"
	}
	return fmt.Sprintf("%s %s: %s; key %s; about %d rows; chunks of at most %d rows, %d MiB, %v%s",
		verb, p.Relation.Table(), strings.Join(columns, ", "), strings.Join(p.Key.Names(), ", "), p.Relation.Rows(), limits.Rows, limits.Bytes>>20, limits.Time, schemeWords(p)+whereWords(p))
}

// rungs are the changes to the table before the first row is encrypted, with the lock each takes on it.
func rungs(p preflight.Plan, strict bool) []string {
	var list []string
	for _, c := range p.Columns {
		if c.Add {
			list = append(list, fmt.Sprintf("add column %s %s (ACCESS EXCLUSIVE, for a moment)", c.Target.Name, addedAs(c)))
		}
		if c.Guarded {
			list = append(list, fmt.Sprintf("column %s has its CHECK and its capture triggers: nothing to alter", c.Target.Name))
			continue
		}
		if c.Made() {
			list = append(list, madeRungs(c)...)
			continue
		}
		list = slices.Concat(list, checkRungs(p, c), []string{captureRung(p, c)}, boundRungs(p, c))
	}
	if strict {
		list = append(list, "create two triggers that let writes fail which miss a target (SHARE ROW EXCLUSIVE, for a moment)")
	}
	return append(list, "each of them waits for its locks half a second at a time, and gives up after 30")
}

// checkRungs are the changes that let only cells into a target; none where that is proven.
func checkRungs(p preflight.Plan, c preflight.Column) (list []string) {
	at := slices.IndexFunc(p.Relation.Checks, func(k pg.Check) bool {
		return c.Registered.ID != 0 && !c.Add && k.Name == ddl.CheckName(c.Registered.ID)
	})
	if at < 0 {
		list = append(list, fmt.Sprintf("add a CHECK to %s that lets only NULL and %s in, NOT VALID (ACCESS EXCLUSIVE, for a moment)", c.Target.Name, letIn(c)))
	}
	if at < 0 || !p.Relation.Checks[at].Validated {
		list = append(list, "validate it (SHARE UPDATE EXCLUSIVE; reads the table beside readers and writers)")
	}
	return list
}

// captureRung is the change that has missed writes noticed. Where another condition was in force, cells are compared then.
func captureRung(p preflight.Plan, c preflight.Column) string {
	number := "two"
	if c.Where != nil {
		number = "three"
	}
	text := fmt.Sprintf("create %s capture triggers that notice writes which miss %s (SHARE ROW EXCLUSIVE, for a moment)", number, c.Target.Name)
	if c.Registered.ID != 0 && !c.Where.Same(c.Was) {
		text += "; the cells that are there are compared with their sources"
	}
	return text
}

// inFleet starts the job in the fleet and follows it.
func (o *backfillOptions) inFleet(work, drain context.Context, c *cobra.Command, s *station) error {
	if err := s.openQueue(work, "", 0); err != nil {
		return err
	}
	job, err := o.begin(work, drain, c, s, leader{s.queue})
	if err != nil {
		return err
	}
	job, err = follow(drain, c.ErrOrStderr(), job, func() (messages.Job, error) {
		return once(work, func(ctx context.Context) (messages.Job, error) {
			return s.queue.Job(ctx, messages.JobRequest{Job: job.ID})
		})
	})
	if drain.Err() != nil {
		if job, err = (leader{s.queue}).Pause(work, messages.JobRequest{Job: job.ID}); err != nil {
			return fmt.Errorf("pause the job: %w", err)
		}
	}
	return o.end(c.OutOrStdout(), job, err)
}

// inProcess leads, works and follows in this one process.
func (o *backfillOptions) inProcess(work, drain context.Context, c *cobra.Command, s *station) error {
	dir, err := os.MkdirTemp("", "cipherfleet-")
	if err != nil {
		return fmt.Errorf("make room for the queue: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the queue may be lost at any time
	if !o.keyless {
		if err := s.openKey(work); err != nil {
			return err
		}
	}
	if err := s.openQueue(work, dir, 0); err != nil {
		return err
	}
	if err := s.openPlane(work); err != nil {
		return err
	}
	s.plane.Private = s.config.NATSURL == ""
	var job messages.Job
	leading, depose := context.WithCancel(work)
	defer depose()
	working, rest := context.WithCancel(drain)
	defer rest()
	serving := make(chan struct{})
	err = together(leading,
		func(ctx context.Context) error {
			return ended(leading, led(s.plane.LeadOnce(ctx, func() { close(serving) })))
		},
		func(ctx context.Context) error {
			select {
			case <-serving: // the queue is there
				return s.work(ctx, working, slots())
			case <-ctx.Done():
				return nil
			}
		},
		func(ctx context.Context) (err error) {
			defer depose()
			select {
			case <-serving:
			case <-ctx.Done():
				return nil // whoever could not lead says why
			}
			job, err = o.startAndFollow(ctx, drain, c, s)
			rest()
			if drain.Err() != nil && err == nil && job.ID != "" {
				job, err = s.plane.Pause(ctx, messages.JobRequest{Job: job.ID})
			}
			return err
		})
	return o.end(c.OutOrStdout(), job, err)
}

// starter is the control plane, here or at the other end of NATS.
type starter interface {
	Start(context.Context, messages.StartRequest) (messages.Job, error)
	Retry(context.Context, messages.RetryRequest) (messages.Job, error)
}

// begin asks for the job, and again when what the fleet began by itself is in the way no more.
func (o *backfillOptions) begin(ctx, drain context.Context, c *cobra.Command, s *station, plane starter) (job messages.Job, err error) {
	until, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(drain, func() { stop(context.Cause(drain)) })()
	patience := s.patience(c.ErrOrStderr())
	patience.Left = standing.LongestWait // it is worked on here, if it is not elsewhere
	ask := func() error {
		if o.again.Job != "" {
			job, err = plane.Retry(ctx, o.again)
		} else {
			job, err = plane.Start(ctx, o.request)
		}
		return err
	}
	for {
		if err = patience.Through(until, ask); err == nil || o.early == nil || !o.early(ctx, err) {
			return job, err
		}
	}
}

func (o *backfillOptions) startAndFollow(ctx, drain context.Context, c *cobra.Command, s *station) (messages.Job, error) {
	job, err := o.begin(ctx, drain, c, s, s.plane)
	if err != nil {
		return messages.Job{}, err
	}
	return follow(drain, c.ErrOrStderr(), job, func() (messages.Job, error) { return s.plane.Get(ctx, messages.JobRequest{Job: job.ID}) })
}

// ended forgives an error that is only the end that was wanted.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// led says what to do when somebody else leads.
func led(err error) error {
	if errors.Is(err, control.ErrLed) {
		return &app.Fail{Code: app.CodeRefused, Err: err, Hint: "set NATS_URL to the NATS of that coordinator to start the job in its fleet, or stop that coordinator"}
	}
	return err
}

// doneWord is what a job that is done did.
func doneWord(job messages.Job) string {
	if job.Scheme > 0 {
		return fmt.Sprintf("rotated to scheme %d", job.Scheme)
	}
	return "backfilled"
}

// end prints the job and turns its state into the command's outcome.
func (o *backfillOptions) end(out io.Writer, job messages.Job, err error) error {
	if err != nil {
		return err
	}
	if o.outcome != nil {
		return o.outcome(job)
	}
	if o.asJSON {
		body, err := job.Marshal()
		if err != nil {
			return err
		}
		fmt.Fprintln(out, string(body))
	}
	switch work.State(job.State) {
	case work.Done:
		if !o.asJSON {
			fmt.Fprintf(out, "%s %s: %d rows in %v\n", doneWord(job), job.Table, job.Rows, time.Since(job.CreatedAt).Round(time.Millisecond))
		}
		return nil
	case work.Paused:
		hint := "the same command resumes"
		if o.again.Job != "" {
			hint = "cipherfleet job resume " + job.ID + " lets it go on"
		}
		return &app.Fail{Code: app.CodePaused, Err: fmt.Errorf("paused after %d rows", job.Rows), Hint: hint}
	case work.Cancelled:
		return &app.Fail{Code: app.CodePaused, Err: errors.New("the job was cancelled"), Hint: "the same command starts a new one, which goes on with what is left"}
	}
	if job.Quarantined > 0 {
		return &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("the job failed: %s", job.StoppedBy),
			Hint: fmt.Sprintf("cipherfleet job show %s --quarantined says why; mend it, then cipherfleet job retry %s --quarantined", job.ID, job.ID)}
	}
	return &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("the job failed: %s", job.StoppedBy), Hint: mendHint(job) + "; the same command starts a new job, which goes on with what is left"}
}

// mendHint says what to do about what stopped a job, as far as its name tells.
func mendHint(job messages.Job) string {
	if strings.HasSuffix(job.StoppedBy, ": "+insufficientPrivilege) {
		return "a worker's role lacks a right: docs/operations.md lists what it needs, on the table and its target too; grant it"
	}
	return "mend what it names"
}

const insufficientPrivilege = "42501"
