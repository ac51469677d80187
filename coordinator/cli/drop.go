package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const dropLong = `Write the migration that takes a column's plaintext away for good, once the column is cut over.

First it proves that every plaintext has its cell, by a CHECK constraint on the table that is added without reading a
row and then validated beside readers and writers. From then on a write that leaves a plaintext without a cell fails;
cipherfleet rollback takes the constraint away again. Rows that break it are counted, and nothing is left behind.

The migration waits for its locks on the table and its partitions for at most half a second, or half of
deadlock_timeout, so that it makes nobody a deadlock's victim, and reads no row under them: it looks whether that
constraint still stands and is validated, whether the column is still cut over and no job is at work, and changes
nothing otherwise. Then it removes reverse capture, the constraint, and the plaintext with its own indexes and
constraints. The check on the cells stays. Views and whatever else would have to go too are listed, and refused. The
way back adds the column without its values.

The SQL goes to standard output, or with --out to a file in the style of your migration tool (--format; see
cipherfleet install --help). --apply runs it, instead or as well. That the column is dropped is recorded when somebody
sees it gone: this command, a coordinator, or cipherfleet status. Afterwards, cipherfleet residue looks for copies.

Exit codes: 0 written, dropped, or dropped already · 2 bad flag or environment · 4 refused, nothing changed · 5 rows
have no cell · 6 Postgres unavailable · 7 denied`

const dropExample = `  cipherfleet drop users.email --dry-run
  cipherfleet drop users.email --format golang-migrate --out migrations/
  cipherfleet drop crm.contacts.phone --apply --json`

type dropOptions struct {
	column                oneColumn
	name                  standing.Name
	file                  migrationOut
	apply, dryRun, asJSON bool
}

func newDrop(read settings) *cobra.Command {
	o := &dropOptions{}
	c := &cobra.Command{Use: "drop TABLE.COLUMN", Short: "Write or run the migration that takes a column's plaintext away", Long: dropLong, Example: dropExample}
	f := c.Flags()
	o.column.flags(f)
	o.file.flags(f)
	f.BoolVar(&o.apply, "apply", false, "run the migration here and now")
	f.BoolVar(&o.dryRun, "dry-run", false, "check what can be checked without reading rows, print the SQL, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args, read) }
	return c
}

// dropDone is what drop did, or would do.
type dropDone struct {
	V         int      `json:"v"`
	Table     string   `json:"table"`
	Column    string   `json:"column"`
	Plaintext string   `json:"plaintext"` // the column that goes, by its present name; "" if it is gone already
	State     string   `json:"state"`     // dry-run, planned or dropped
	Scripts   []script `json:"files"`     // with their SQL where they were not written
	Along     []string `json:"along"`     // goes with it
	Mind      []string `json:"mind"`      // knows it by its name

	before string // what goes, in a sentence
}

func (o *dropOptions) run(c *cobra.Command, args []string, read settings) (err error) {
	if o.name, err = o.column.name(c, args); err != nil {
		return err
	}
	if err := o.file.check(c); err != nil {
		return err
	}
	if o.apply && o.dryRun {
		return usage(errors.New("--apply runs the migration and --dry-run does not: choose one"), c)
	}
	s, err := read.open(c)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	l := &ladder.Ladder{DB: s.db}
	var plan ladder.Drop
	patience := s.patience(c.ErrOrStderr())
	through := func(f func() error) error { return patience.Through(c.Context(), f) }
	err = through(func() (err error) { plan, err = l.PlanDrop(c.Context(), o.name); return err })
	if err != nil {
		return err
	}
	done := dropDone{V: messages.Version, Table: plan.Relation.Table().String(), Column: plan.Source, Plaintext: plan.Plain.Name, State: "dropped",
		Scripts: []script{}, Along: named(plan.Along), Mind: named(plan.Mind), before: plan.Before()}
	if plan.Gone {
		if !o.dryRun {
			_, err = standing.RecordDropped(c.Context(), s.db)
		}
	} else {
		err = o.drop(c, l, plan, &done, through)
	}
	if err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(done)
	}
	return o.print(c.OutOrStdout(), c.ErrOrStderr(), done)
}

func columnNames(all []pg.Column) (names []string) {
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

func named(all []standing.Dependent) []string {
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.String()
	}
	return names
}

// drop does what is left to do: proves, writes, applies, each through what the fleet began by itself meanwhile. A file that
// could not be recorded does not stay.
func (o *dropOptions) drop(c *cobra.Command, l *ladder.Ladder, plan ladder.Drop, done *dropDone, through func(func() error) error) error {
	scripts, err := o.file.render(dropMigration(plan), time.Now())
	if err != nil {
		return err
	}
	if done.State, done.Scripts = "dry-run", scripts; o.dryRun {
		return nil
	}
	if !o.asJSON {
		fmt.Fprintf(c.ErrOrStderr(), "proving that every %s of %s has its cell: reads the table once, beside readers and writers\n", strings.TrimSuffix(done.before, "s"), done.Table)
	}
	if err := through(func() error { return l.ProveCoverage(c.Context(), plan, o.name) }); err != nil {
		return err
	}
	if done.State = "planned"; o.file.out != "" || !o.apply {
		if err := o.file.save(scripts); err != nil {
			return err
		}
		sum := checksum(scripts[0].Text)
		if err := through(func() error { return l.RecordPlan(c.Context(), plan, baseName(scripts[0].Path), o.file.style, sum) }); err != nil {
			return errors.Join(err, remove(scripts))
		}
	}
	if o.file.out != "" || o.apply {
		for i := range scripts {
			scripts[i].Text = ""
		}
	}
	if o.apply {
		if o.file.out == "" {
			done.Scripts = []script{}
		}
		if err := through(func() error { return l.Apply(c.Context(), plan) }); err != nil {
			return err
		}
		done.State = "dropped"
	}
	return nil
}

func baseName(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

// dropMigration is the plan as a file, with what its reviewer should know.
func dropMigration(d ladder.Drop) migration {
	m := migration{name: fileName("drop", d.Relation.Name, d.Plain.Name), up: d.SQL.Do, down: d.SQL.Undo, about: []string{
		fmt.Sprintf("Takes the %s of %s.%s away for good: column %q. Its cells stay, in column %q.", d.Before(), d.Relation.Table(), d.Source, d.Plain.Name, d.Sealed.Name),
		"It waits briefly for its lock on the table and reads no row under it: constraint " + ddl.CoverageName(d.ID) + " proves",
		"that every " + strings.TrimSuffix(d.Before(), "s") + " has its cell. If that, or anything else that this rests on, is not so any more, nothing is changed.",
		"Run it in one transaction, as the owner of the table and of schema cipherfleet. The way back adds the column without its values.",
	}}
	if len(d.With) > 0 {
		m.about = append(m.about, "Nothing else needs what its values were opened with, which goes too: "+strings.Join(columnNames(d.With), ", ")+".")
	}
	if len(d.Along) > 0 {
		m.about = append(m.about, "Goes with it: "+strings.Join(named(d.Along), ", ")+".")
	}
	if len(d.Mind) > 0 {
		m.about = append(m.about, "Knows it by its name, and will not find it any more: "+strings.Join(named(d.Mind), ", ")+".")
	}
	return m
}

func (o *dropOptions) print(w, errout io.Writer, done dropDone) error {
	if done.State == "dropped" {
		verb, next := isOrAre(done.before), "next: cipherfleet residue looks for copies that outlive it\n"
		if verb == "are" { // cells: a copy of them shows nothing
			next = ""
		}
		_, err := fmt.Fprintf(w, "the %s of %s.%s %s dropped\n%s", done.before, done.Table, done.Column, verb, next)
		return err
	}
	for what, names := range map[string][]string{"goes with it": done.Along, "knows it by its name, and will not find it any more": done.Mind} {
		if len(names) > 0 {
			fmt.Fprintf(errout, "%s: %s\n", what, strings.Join(names, ", "))
		}
	}
	if o.file.out == "" || o.dryRun {
		_, err := io.WriteString(w, done.Scripts[0].Text)
		return err
	}
	_, err := fmt.Fprintf(w, "wrote %s\nnext: review it and let your migration tool run it, or run cipherfleet drop with --apply\n", strings.Join(paths(done.Scripts), " and "))
	return err
}
