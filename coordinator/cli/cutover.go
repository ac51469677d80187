package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

const cutoverLong = `Let the cells of a column take the place of its plaintext, in one transaction under a short lock.

With --strategy swap (the default) users.email becomes users.email_plaintext, and users.email_encrypted becomes
users.email. The cell column takes over NOT NULL, comment and column rights; a default of the plaintext goes, for it
would write plaintext. With by-name all names stay, for applications whose code switches. Either way reverse capture
replaces capture: from now on a cell that is written clears its plaintext, which the fleet decrypts again, so that
rollback never loses a write. What was moved is recorded, and rollback puts it back.

It wants: the column backfilled; a full verify that began after that (with --reason a sample, or none, is enough); no
missed write for the soak (--soak, else the manifest's, else 24h); nothing that would silently change its meaning:
views, functions, constraints, indexes, triggers, policies, publications and more are listed, all at once, and each may
be acknowledged by name with --despite. An index on uncovered rows is built first, beside readers and writers. The lock
is waited for half a second at a time, and for 30 s in all. A row that turns out to be uncovered under the lock makes
it give way: the fleet seals the row (with NATS_URL the coordinator's, else this process), and it tries again.

Killed at any moment, the same command goes on.

Exit codes: 0 cut over, or cut over already · 2 bad flag, environment or manifest · 3 wait: there were missed writes
within the soak; or it is cut over, and NOT NULL is left to be done · 4 refused, nothing changed · 5 rows stay
uncovered · 6 Postgres, NATS or key unavailable · 7 denied`

const cutoverExample = `  cipherfleet cutover users.email --dry-run
  cipherfleet cutover users.email --soak 1h --despite public.users_email_idx
  cipherfleet cutover crm.contacts.phone --strategy by-name --soak 0 --reason "staging: nobody writes" --json`

type cutoverOptions struct {
	column         oneColumn
	request        ladder.CutoverRequest
	dryRun, asJSON bool
}

func newCutover(read settings) *cobra.Command {
	o := &cutoverOptions{}
	c := &cobra.Command{Use: "cutover TABLE.COLUMN", Short: "Let the cells take the plaintext's place", Long: cutoverLong, Example: cutoverExample}
	f := c.Flags()
	o.column.flags(f)
	f.StringVar(&o.request.Strategy, "strategy", "", "swap or by-name (default: the manifest's, else swap)")
	f.DurationVar(&o.request.Soak, "soak", 0, "how long there must have been no missed write; 0 asks for nothing (default: the manifest's, else 24h)")
	f.StringVar(&o.request.Reason, "reason", "", "why a sample, or no verification at all, is enough; recorded")
	f.StringVar(&o.request.Note, "note", "", "a note for the log")
	f.StringArrayVar(&o.request.Despite, "despite", nil, "the name of something that may change its meaning; may be repeated; recorded")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, print the statements and their locks, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if o.request.Column, err = o.column.name(c, args); err != nil {
			return err
		}
		return o.run(c, read)
	}
	return c
}

func (o *cutoverOptions) run(c *cobra.Command, read settings) error {
	config, err := read()
	if err != nil {
		return err
	}
	if err := o.fill(c, config); err != nil {
		return err
	}
	return o.execute(c, config)
}

// execute plans, or does it.
func (o *cutoverOptions) execute(c *cobra.Command, config app.Coordinator) error {
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	l := &ladder.Ladder{DB: s.db}
	if o.dryRun {
		plan, err := l.PlanCutover(c.Context(), o.request)
		if err != nil {
			return err
		}
		return o.printPlan(c.OutOrStdout(), plan)
	}
	work, drain, stop := app.Signals(c.Context(), config.Drain, s.log)
	defer stop()
	o.request.Sweep = func(_ context.Context, r messages.StartRequest) error { return sweep(work, drain, c, config, r) }
	o.request.Waiting = waitingFor(c.ErrOrStderr())
	result, err := l.Cutover(drain, o.request)
	if err != nil {
		if short := cutShort(work); short != nil {
			return short
		}
		return err
	}
	tellProxy(work, c.ErrOrStderr(), config, l, o.request.Column)
	return o.print(c.OutOrStdout(), result)
}

// fill completes the request from the manifest: what no flag says.
func (o *cutoverOptions) fill(c *cobra.Command, config app.Coordinator) error {
	wanted, _, err := manifestColumn(config, o.request.Column)
	if err != nil {
		return err
	}
	if !c.Flags().Changed("soak") {
		o.request.Soak = wanted.Soak
	}
	if o.request.Strategy == "" {
		o.request.Strategy = wanted.Cutover
	}
	switch {
	case o.request.Strategy != standing.StrategySwap && o.request.Strategy != standing.StrategyByName:
		return usage(fmt.Errorf("--strategy was %q; accepted are %s and %s", o.request.Strategy, standing.StrategySwap, standing.StrategyByName), c)
	case o.request.Soak < 0:
		return usage(fmt.Errorf("--soak was %v; accepted is 0 or more", o.request.Soak), c)
	}
	return nil
}

// manifestColumn is what the manifest wants of a column, and by which key its table is walked, or the defaults where it
// says nothing.
func manifestColumn(config app.Coordinator, n standing.Name) (c manifest.Column, in manifest.Table, err error) {
	m, err := loadManifest(config.Manifest)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, in, err
	}
	for _, t := range m.Tables {
		at := slices.IndexFunc(t.Columns, func(c manifest.Column) bool {
			return c.Source == n.Column && !c.From.Own() || c.From.Own() && c.Target == n.Column
		})
		if t.Schema == n.Schema && t.Name == n.Table && at >= 0 {
			return t.Columns[at], t, nil
		}
	}
	return manifest.DefaultColumn(n.Column), in, nil
}

// sweep has uncovered rows sealed: by the fleet of NATS_URL, else in this process. What it prints is not the command's
// result.
func sweep(work, drain context.Context, c *cobra.Command, config app.Coordinator, r messages.StartRequest) error {
	s, err := openBase(work, config, c.ErrOrStderr(), "cipherfleet", planeConns)
	if err != nil {
		return err
	}
	defer s.close(work)
	aside := &cobra.Command{}
	aside.SetOut(c.ErrOrStderr())
	aside.SetErr(c.ErrOrStderr())
	o := &backfillOptions{request: r}
	if config.NATSURL != "" {
		return o.inFleet(work, drain, aside, s)
	}
	return o.inProcess(work, drain, aside, s)
}

func (o *cutoverOptions) print(w io.Writer, r ladder.CutoverResult) error {
	if o.asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	already := ""
	if r.Already {
		already = " already"
	}
	_, err := fmt.Fprintf(w, "%s.%s is cut over%s: the cells are in column %s, the %s %s in %s\n", r.Table, r.Column, already, r.SealedName, r.Before, isOrAre(r.Before), r.PlainName)
	return err
}

// isOrAre is the verb of what stood in a column before its cells.
func isOrAre(before string) string {
	if strings.HasSuffix(before, "s") {
		return "are"
	}
	return "is"
}

func (o *cutoverOptions) printPlan(w io.Writer, p ladder.CutoverPlan) error {
	if o.asJSON {
		return json.NewEncoder(w).Encode(p)
	}
	if p.Already {
		return o.print(w, ladder.CutoverResult{Table: p.Table, Column: p.Column, Already: true, Cutover: p.Cutover})
	}
	stage := ""
	for _, step := range p.Steps {
		if step.Stage != stage {
			stage = step.Stage
			fmt.Fprintf(w, "-- %s\n", stageWords(stage))
		}
		fmt.Fprintf(w, "-- lock: %s\n%s;\n", step.Lock, step.SQL)
	}
	_, err := fmt.Fprintln(w, "-- nothing was changed")
	return err
}

func stageWords(stage string) string {
	switch stage {
	case "before":
		return "before the cutover, each on its own, beside readers and writers"
	case "cutover":
		return "the cutover: one transaction, with its event; the lock is waited for 500 ms at a time, and for 30 s in all"
	}
	return "after the cutover, each in its own transaction"
}
