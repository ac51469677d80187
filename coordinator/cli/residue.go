package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/residue"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const residueLong = `Look for plaintext that outlives the encryption of a column: in the table itself, and wherever it may have been copied
to.

It looks at the column while it is there, and afterwards at row versions that still carry it (by extension pageinspect,
on at most 2000 pages of each table; dropping a column rewrites nothing), dead rows and TOAST; at statistics and
indexes, also ones that a failed build left; at views, materialized views, triggers, functions, publications,
subscriptions and replication slots; at what the server logs; at tables that look like copies or histories. Each
finding says what it is, whether --clean deals with it, and else what a person must do. No value is ever shown. What
no query can see, such as backups, is a checklist at the end; it has no part in the exit code.

--clean runs VACUUM and ANALYZE, builds indexes anew whose column was emptied, and drops what an interrupted index
build left behind; then it looks again. With --rewrite, after the drop, it writes the table anew: VACUUM FULL locks
everybody out meanwhile, and --dry-run says about how long.

Exit codes: 0 nothing found, or nothing left · 2 bad flag or environment · 3 something is left for a person or for
--clean · 4 refused · 6 Postgres unavailable · 7 denied`

const residueExample = `  cipherfleet residue users.email
  cipherfleet residue users.email --clean --rewrite --dry-run
  cipherfleet residue crm.contacts.phone --clean --accept logging --json`

type residueOptions struct {
	column                         oneColumn
	accept                         []string
	clean, rewrite, dryRun, asJSON bool
}

func newResidue(read settings) *cobra.Command {
	o := &residueOptions{}
	c := &cobra.Command{Use: "residue TABLE.COLUMN", Short: "Look for plaintext that outlives encryption", Long: residueLong, Example: residueExample}
	f := c.Flags()
	o.column.flags(f)
	f.BoolVar(&o.clean, "clean", false, "do what can be done without harm, and look again")
	f.BoolVar(&o.rewrite, "rewrite", false, "with --clean: write the table anew, which locks everybody out meanwhile")
	f.StringSliceVar(&o.accept, "accept", nil, "kinds of finding that somebody has seen to; they do not count for the exit code")
	f.BoolVar(&o.dryRun, "dry-run", false, "with --clean: print the statements and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args, read) }
	return c
}

// residueReport is what residue found, and did.
type residueReport struct {
	residue.Report
	Accepted   []string `json:"accepted"`
	Left       int      `json:"left"`       // findings that are not accepted
	Statements []string `json:"statements"` // that --clean ran, or would run
	Seconds    int64    `json:"seconds"`    // that rewriting takes at most on modest storage
	DryRun     bool     `json:"dry_run,omitempty"`
}

func (o *residueOptions) check(c *cobra.Command) error {
	switch {
	case o.rewrite && !o.clean:
		return usage(errors.New("--rewrite is a way to clean: add --clean"), c)
	case o.dryRun && !o.clean:
		return usage(errors.New("--dry-run is about --clean; without it nothing is changed anyway"), c)
	}
	for _, kind := range o.accept {
		if !slices.Contains(residue.Kinds(), kind) {
			return usage(fmt.Errorf("--accept was %q; accepted is %s", kind, strings.Join(residue.Kinds(), ", ")), c)
		}
	}
	return nil
}

func (o *residueOptions) run(c *cobra.Command, args []string, read settings) error {
	name, err := o.column.name(c, args)
	if err != nil {
		return err
	}
	if err := o.check(c); err != nil {
		return err
	}
	s, err := read.open(c)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	report := residueReport{Accepted: append([]string{}, o.accept...), Statements: []string{}}
	cleaner := &residue.Cleaner{DB: s.db}
	if o.clean {
		err = o.tidy(c, cleaner, name, &report)
	} else {
		report.Report, err = cleaner.Look(c.Context(), name)
	}
	if err != nil {
		return err
	}
	report.Left = len(report.Report.Left(o.accept))
	if o.asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(report)
	} else {
		err = page.Residue(c.OutOrStdout(), report.Report, o.accept)
	}
	if err == nil && report.Left > 0 {
		err = &app.Fail{Code: app.CodeWaiting, Err: left(report), Hint: o.hint(report)}
	}
	return err
}

// left says that something may be left, and how much.
func left(r residueReport) error {
	return fmt.Errorf("%s of %s.%s %s left, or may be: %d findings", r.Before(), r.Table, r.Column, isOrAre(r.Before()), r.Left)
}

// tidy cleans, or says what it would do.
func (o *residueOptions) tidy(c *cobra.Command, cleaner *residue.Cleaner, name standing.Name, report *residueReport) error {
	cleaning, err := cleaner.Plan(c.Context(), name, o.rewrite)
	if err != nil {
		return err
	}
	report.Report, report.Statements, report.Seconds, report.DryRun = cleaning.Report, cleaning.Statements, cleaning.MaxSeconds, o.dryRun
	if !o.asJSON {
		report.announce(c.ErrOrStderr(), cleaning)
	}
	if o.dryRun {
		return nil
	}
	report.Report, err = cleaner.Clean(c.Context(), name, cleaning)
	return err
}

func (r residueReport) announce(w io.Writer, c residue.Cleaning) {
	if c.Rewrites {
		fmt.Fprintf(w, "writing %s anew, %s: nobody can read or write it meanwhile, for about %d s or less\n", c.Table, c.Size(), c.MaxSeconds)
	}
	for _, statement := range r.Statements {
		fmt.Fprintf(w, "  %s\n", statement)
	}
}

func (o *residueOptions) hint(r residueReport) string {
	cleans, rewrites := false, false
	for _, f := range r.Report.Left(o.accept) {
		cleans, rewrites = cleans || f.Cleans && !f.Rewrites, rewrites || f.Rewrites
	}
	switch {
	case rewrites && !o.rewrite:
		return "--clean --rewrite deals with what is in the table itself; the rest is for a person, and --accept KIND says that it was seen to"
	case cleans && !o.clean:
		return "--clean deals with some of it; the rest is for a person, and --accept KIND says that it was seen to"
	}
	return "each finding says what to do; --accept KIND says that it was seen to"
}
