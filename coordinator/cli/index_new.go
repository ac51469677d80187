package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

const indexNewLong = `Make a blind index of a column: a column of tokens, named as the index, with a key of its own. The key is drawn, wrapped
by the key-encryption key, committed, read back and proven; then the column comes, with a CHECK of its tokens' length
and the triggers that take a token away when the cell beside it changes. Clients write tokens from now on; cipherfleet
index build has the fleet write those of the rows that are there.

What it is like is said by the flags; where they are silent, by the manifest, if it lists an index of this name.

--next makes another generation of an index that is there, with another key, in a column NAME_2: build it, then drop the
old one. Nothing else of an index can change.

No index of a partitioned table is unique: Postgres keeps values unique in each partition alone.

A column of few different values is refused, unless --few-values says that it may be: who sees how often each token
occurs knows which value it is of.

Exit codes: as of cipherfleet index`

const indexNewExample = `  cipherfleet index new users.email email_bidx --normalise lower-trim --unique
  cipherfleet index new users.phone phone_bidx --normalise digits --dry-run
  cipherfleet index new users.email email_bidx --next --reason "key rotation of spring"`

type indexNewOptions struct {
	index          oneIndex
	wanted         index.Wanted
	reason         string
	dryRun, asJSON bool
}

func newIndexNew(read settings) *cobra.Command {
	o := &indexNewOptions{}
	c := &cobra.Command{Use: "new TABLE.COLUMN NAME", Short: "Make a blind index of a column, with a key of its own", Long: indexNewLong, Example: indexNewExample}
	f := c.Flags()
	o.index.column.flags(f)
	f.StringVar(&o.wanted.Normalise, "normalise", "exact", "which values count as equal: exact (as SQL says), lower-trim, digits or nfc")
	f.IntVar(&o.wanted.Bytes, "bytes", 16, "length of a token, 1 to 32; unique needs 16")
	f.BoolVar(&o.wanted.Unique, "unique", false, "no two rows may have equal values, in their normal form")
	f.BoolVar(&o.wanted.Next, "next", false, "another generation of an index that is there, with another key")
	f.BoolVar(&o.wanted.Few, "few-values", false, "the column may have few different values")
	f.StringVar(&o.reason, "reason", "", "why, for the log")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, print the SQL, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print the index as JSON")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args, read) }
	return c
}

func (o *indexNewOptions) run(c *cobra.Command, args []string, read settings) error {
	if err := o.index.read(c, args); err != nil {
		return err
	}
	o.wanted.Name = o.index.name
	return withIndexes(c, read, true, o.reason, func(s *station, r *index.Registry) error {
		listed, err := listedIndexes(s.config.Manifest, o.index.of)
		if err != nil {
			return err
		}
		o.fromManifest(c, listed)
		var p index.NewPlan
		patience := s.patience(c.ErrOrStderr())
		plan := func() (err error) { p, err = r.PlanNew(c.Context(), o.index.of, o.wanted); return err }
		if err := patience.Through(c.Context(), plan); err != nil {
			return err
		}
		for _, warning := range p.Warnings {
			fmt.Fprintln(c.ErrOrStderr(), "warning: "+warning)
		}
		done := indexDone{V: messages.Version, Table: p.Table, Column: p.Column, DryRun: o.dryRun, Change: !p.Already, Index: index.Wished(p)}
		if o.dryRun && !p.Already {
			for _, statement := range p.Statements {
				fmt.Fprintln(c.ErrOrStderr(), statement+";")
			}
		}
		if !o.dryRun {
			err := patience.Through(c.Context(), func() (err error) { done.Index, err = r.New(c.Context(), p); return err })
			if err != nil {
				return err
			}
		}
		return o.print(c, done)
	})
}

// listedIndexes are the blind indexes that the manifest lists for a column; none without a manifest.
func listedIndexes(path string, of standing.Name) ([]manifest.Index, error) {
	file, err := loadManifest(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, t := range file.Tables {
		for _, c := range t.Columns {
			if t.Schema == of.Schema && t.Name == of.Table && c.Source == of.Column {
				return c.Indexes, nil
			}
		}
	}
	return nil, nil
}

// fromManifest fills in what flags leave out.
func (o *indexNewOptions) fromManifest(c *cobra.Command, listed []manifest.Index) {
	for _, x := range listed {
		if x.Name != o.wanted.Name {
			continue
		}
		if !c.Flags().Changed("normalise") {
			o.wanted.Normalise = x.Normalise
		}
		if !c.Flags().Changed("bytes") {
			o.wanted.Bytes = x.Bytes
		}
		if !c.Flags().Changed("unique") {
			o.wanted.Unique = x.Unique
		}
		if !c.Flags().Changed("few-values") {
			o.wanted.Few = x.Few
		}
	}
}

func (o *indexNewOptions) print(c *cobra.Command, done indexDone) (err error) {
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(done)
	}
	of, x := done.Table+"."+done.Column, done.Index
	which, build := "", o.index.of.Command("index build")+" "+standing.Quoted(x.Name)
	if x.Generation > 1 {
		which, build = fmt.Sprintf(", generation %d in column %s", x.Generation, x.Token), fmt.Sprintf("%s --generation %d", build, x.Generation)
	}
	switch {
	case !done.Change && done.DryRun:
		_, err = fmt.Fprintf(c.OutOrStdout(), "blind index %s of %s is there already\n", x.Name, of)
	case !done.Change:
		_, err = fmt.Fprintf(c.OutOrStdout(), "blind index %s of %s is there already, its key proven: it is %s\n", x.Name, of, x.State)
	case done.DryRun:
		_, err = fmt.Fprintf(c.OutOrStdout(), "would make blind index %s of %s%s: %s; nothing was changed\n", x.Name, of, which, page.IndexLine(x))
	default:
		next := ""
		if x.State == lifecycle.IndexFilling {
			next = "; `" + build + "` writes the tokens of the rows that are there"
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "made blind index %s of %s%s: %s%s\n", x.Name, of, which, page.IndexLine(x), next)
	}
	return err
}
