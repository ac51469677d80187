package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const advanceLong = `Take a column to a phase: schema-added, dual-writing, backfilled or cut-over.

The rungs in between are climbed one by one, each recorded in the transaction that climbs it, by the same steps as
cipherfleet backfill. schema-added adds the target column and the CHECK that lets only cells into it. dual-writing makes
the column's key, validates the CHECK, and puts capture in place: from then on a write that misses the target is
noticed. backfilling and backfilled run the backfill, cut-over the cutover, with that command's gates and the
manifest's soak and strategy. A column that stands there already stays; what is missing of its rungs is put back.

With --reason a phase is set by hand, and recorded as such: one against the order, or backfilled without a run. Nothing
is changed then but the log, and whatever rests on a proof asks for it all the same. A cutover is taken back by
cipherfleet rollback, and a plaintext dropped by cipherfleet drop.

Exit codes: 0 it stands there · 2 bad flag, environment or manifest · 3 wait: there were missed writes within the soak ·
4 refused, nothing changed · 5 rows in quarantine, or uncovered · 6 Postgres, NATS or key unavailable · 7 denied ·
75 paused, the same command resumes · 130 a second signal, the same command resumes`

const advanceExample = `  cipherfleet advance users.email --to schema-added --note "ticket 4711"
  cipherfleet advance users.email --to dual-writing --dry-run
  cipherfleet advance users.email --to dual-writing --strict
  cipherfleet advance crm.contacts.phone --to dual-writing --reason "a restore brought old rows back" --json`

type advanceOptions struct {
	column         oneColumn
	request        ladder.AdvanceRequest
	to, triggers   string
	dryRun, asJSON bool
}

func newAdvance(read settings) *cobra.Command {
	o := &advanceOptions{}
	c := &cobra.Command{Use: "advance TABLE.COLUMN --to PHASE", Short: "Take a column to a phase", Long: advanceLong, Example: advanceExample}
	f := c.Flags()
	o.column.flags(f)
	f.StringVar(&o.to, "to", "", "the phase")
	f.StringVar(&o.request.Target, "target", "", "where the cells go (default: the manifest's, else the column's name with _encrypted behind it)")
	f.StringVar(&o.request.Note, "note", "", "a note for the log")
	f.StringVar(&o.request.Reason, "reason", "", "why the phase is set by hand, or why less than a full verification is enough for a cutover; recorded")
	f.StringVar(&o.triggers, "user-triggers", "", "fire or skip: what becomes of the table's own triggers when rows are encrypted (default: as the manifest's fleet has it)")
	f.BoolVar(&o.request.Strict, "strict", false, "with --to dual-writing: let a write fail that misses the target, with constraint cipherfleet_<id>_strict")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, print the statements and their locks, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if o.request.Column, err = o.column.name(c, args); err != nil {
			return err
		}
		if err := required(c, "to"); err != nil {
			return err
		}
		if o.request.To = lifecycle.Phase(o.to); !o.request.To.Known() {
			return usage(fmt.Errorf("--to was %.40q; accepted are schema-added, dual-writing, backfilling, backfilled, cut-over and dropped", o.to), c)
		}
		return o.run(c, read)
	}
	return c
}

func (o *advanceOptions) run(c *cobra.Command, read settings) error {
	config, err := read()
	if err != nil {
		return err
	}
	wanted, table, err := manifestColumn(config, o.request.Column)
	if err != nil {
		return err
	}
	if err := byBackfillAlone(wanted, table, o.request.To); err != nil {
		return err
	}
	o.request.Key, o.request.First = table.Key, wanted.First()
	if o.request.Target == "" {
		if wanted.Target != o.request.Column.Column+"_encrypted" {
			o.request.Target = wanted.Target
		}
		o.request.Type = wanted.Type // of the manifest's target, and not of one that a flag names
	}
	if wanted.Transform == messages.TransformExternal || wanted.Transform == messages.TransformProxy {
		o.request.Transform, o.request.External = wanted.Transform, messages.Encrypter{Subject: wanted.External.Subject, Key: wanted.External.Key}
	}
	plan, err := o.climb(c, config)
	if err != nil {
		return err
	}
	switch plan.Way {
	case ladder.WayBackfill:
		return o.backfill(c, config, plan)
	case ladder.WayCutover:
		return o.cutover(c, config)
	}
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(plan)
	}
	return o.print(c.OutOrStdout(), plan)
}

// climb plans, and does what is no other command's.
func (o *advanceOptions) climb(c *cobra.Command, config app.Coordinator) (plan ladder.AdvancePlan, err error) {
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return plan, err
	}
	defer s.close(c.Context())
	l := &ladder.Ladder{DB: s.db}
	plan, err = l.PlanAdvance(c.Context(), o.request)
	for _, warning := range plan.Warnings() {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+warning)
	}
	if err != nil || o.dryRun || plan.Way != ladder.WayClimb && plan.Way != ladder.WayRecord {
		return plan, err
	}
	if plan.NeedsKey() {
		if err := s.openKey(c.Context()); err != nil {
			return plan, err
		}
	}
	if err := lifecycle.Install(c.Context(), s.db); err != nil {
		return plan, err
	}
	l.KEK = s.kek
	work, drain, stop := app.Signals(c.Context(), config.Drain, s.log)
	defer stop()
	err = l.Advance(drain, o.request, plan)
	if short := cutShort(work); err != nil && short != nil {
		return plan, short
	}
	return plan, err
}

// backfill does what the command of that name does.
func (o *advanceOptions) backfill(c *cobra.Command, config app.Coordinator, plan ladder.AdvancePlan) error {
	b := &backfillOptions{dryRun: o.dryRun, asJSON: o.asJSON}
	b.request = messages.StartRequest{V: messages.Version, RequestID: uuid.NewString(), Schema: o.request.Column.Schema, Table: o.request.Column.Table,
		Columns: []messages.ColumnRequest{plan.Pair(o.request)}, Key: o.request.Key, Prepare: true, UserTriggers: o.triggers}
	if err := b.fromFleet(config.Manifest); err != nil {
		return err
	}
	if err := invalid(b.request.Validate(), c); err != nil {
		return err
	}
	return b.execute(c, config)
}

// cutover does what the command of that name does, by the manifest.
func (o *advanceOptions) cutover(c *cobra.Command, config app.Coordinator) error {
	wanted, _, err := manifestColumn(config, o.request.Column)
	if err != nil {
		return err
	}
	v := &cutoverOptions{dryRun: o.dryRun, asJSON: o.asJSON}
	v.request = ladder.CutoverRequest{Column: o.request.Column, Strategy: wanted.Cutover, Soak: wanted.Soak, Reason: o.request.Reason, Note: o.request.Note}
	return v.execute(c, config)
}

func (o *advanceOptions) print(w io.Writer, p ladder.AdvancePlan) error {
	name := p.Table + "." + p.Column
	switch {
	case p.Way == ladder.WayNone:
		fmt.Fprintf(w, "%s is %s already\n", name, p.To)
	case o.dryRun:
		for _, step := range p.Steps {
			fmt.Fprintf(w, "-- %s; lock: %s\n%s;\n", step.Stage, step.Lock, step.SQL)
		}
		if p.Way == ladder.WayRecord {
			fmt.Fprintf(w, "-- recorded: %s is %s, by hand\n", name, p.To)
		}
		_, err := fmt.Fprintln(w, "-- nothing was changed")
		return err
	case p.Way == ladder.WayRecord:
		fmt.Fprintf(w, "%s is %s, by hand\n", name, p.To)
	default:
		fmt.Fprintf(w, "%s is %s\n", name, p.To)
	}
	if p.To != lifecycle.PhaseDualWriting {
		return nil
	}
	missing := missedIsFilled
	if o.request.Strict {
		missing = missedFails
	}
	_, err := fmt.Fprintf(w, dualWritingText+missing+"The next step is cipherfleet backfill.\n", p.Column, p.Target)
	return err
}

const dualWritingText = `
From now on an application that writes %[1]s writes %[2]s in the same statement, and says so, either in each
transaction:   SET LOCAL cipherfleet.writer = 'client'
or for a role: ALTER ROLE … SET cipherfleet.writer = 'client'
`

const (
	missedIsFilled = `A write that does not leaves %[2]s empty, to be filled by the fleet, and is counted with its application and role:
cipherfleet status names them. `
	missedFails = `A write that does not fails, with SQLSTATE 23514, until the cutover or a rollback. `
)
