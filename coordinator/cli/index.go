package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
)

const indexLong = `Make, fill and drop the blind indexes of a column: columns of tokens by which rows are found while their values are
sealed. A token is a keyed hash of a value in its normal form, so equal values have equal tokens; the key is the index's
own, and changes with no scheme.

  new      a column of tokens comes, with its key; clients write tokens beside cells from now on
  build    the fleet writes the tokens that are missing; then Postgres makes the index, beside readers and writers
  drop     nobody writes it or looks anything up in it any more; then column and key go

Another key is another generation: index new --next, index build, index drop --generation. While there are two, clients
write both and look up in both. docs/search.md says what an index gives away.

Exit codes: 0 done, or it was already · 2 bad flag, name, environment or manifest · 3 a program that is there still
works with the index; ask again · 4 refused, nothing changed · 5 build: rows in quarantine, the job failed, or rows
share a token; drop nothing, mend what it names · 6 Postgres, NATS or key unavailable · 7 denied · 75 build: paused,
the same command resumes · 130 a second signal, the same command resumes`

const indexExample = `  cipherfleet index new users.email email_bidx --normalise lower-trim --unique
  cipherfleet index build users.email email_bidx
  cipherfleet index ls users.email --count
  cipherfleet index drop users.email email_bidx --generation 1`

func newIndex(read settings) *cobra.Command {
	c := &cobra.Command{Use: "index", Short: "Make, fill and drop the blind indexes of a column", Long: indexLong, Example: indexExample}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(newIndexNew(read), newIndexList(read), newIndexShow(read), newIndexBuild(read), newIndexDrop(read))
	return c
}

// oneIndex is the blind index that a command is about: a column, and a name behind it.
type oneIndex struct {
	column     oneColumn
	of         standing.Name
	name       string
	generation int
}

func (o *oneIndex) flags(c *cobra.Command) {
	o.column.flags(c.Flags())
	c.Flags().IntVar(&o.generation, "generation", 0, "which one, where there are two of the name")
}

func (o *oneIndex) read(c *cobra.Command, args []string) (err error) {
	switch {
	case len(args) == 0:
		return usage(errors.New("the name of the index is missing, behind the column"), c)
	case len(args) == 1 && !o.column.named():
		return usage(errors.New("name the column and, behind it, the index, as in users.email email_bidx"), c)
	}
	if o.generation < 0 {
		return usage(errors.New("--generation was below zero; accepted is the number of one, from 1"), c)
	}
	o.name = args[len(args)-1]
	o.of, err = o.column.name(c, args[:len(args)-1])
	return err
}

// withIndexes opens what a command on blind indexes needs; the key only if it is asked for.
func withIndexes(c *cobra.Command, read settings, key bool, reason string, f func(*station, *index.Registry) error) error {
	return withStation(c, read, key, func(s *station) error {
		return f(s, &index.Registry{DB: s.db, KEK: s.kek, Reason: reason})
	})
}

// indexDone is what a command on a blind index did, or would do.
type indexDone struct {
	V       int            `json:"v"`
	Table   string         `json:"table"`
	Column  string         `json:"column"`
	DryRun  bool           `json:"dry_run"`
	Change  bool           `json:"changed"` // or would be
	Index   index.Index    `json:"index"`
	Job     *messages.Job  `json:"job,omitempty"`     // of a build that filled it
	Doubled *index.Doubled `json:"doubled,omitempty"` // rows that keep it from being unique
}

const indexListLong = `List every blind index a column ever had, with its state. With --count the whole table is read for the rows that lack
their token; that needs no key.

Exit codes: as of cipherfleet index`

func newIndexList(read settings) *cobra.Command {
	column, count, asJSON := &oneColumn{}, false, false
	c := &cobra.Command{Use: "ls TABLE.COLUMN", Short: "List the blind indexes of a column", Long: indexListLong,
		Example: "  cipherfleet index ls users.email\n  cipherfleet index ls users.email --count --json"}
	column.flags(c.Flags())
	c.Flags().BoolVar(&count, "count", false, "read the whole table for the rows that lack their token")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		name, err := column.name(c, args)
		if err != nil {
			return err
		}
		return withIndexes(c, read, false, "", func(_ *station, r *index.Registry) error {
			list, err := r.List(c.Context(), name, count)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(list)
			}
			return page.Indexes(c.OutOrStdout(), list)
		})
	}
	return c
}

const indexShowLong = `Show one blind index of a column: its tokens, its state, its key, and what stands of it in Postgres.

Exit codes: as of cipherfleet index`

func newIndexShow(read settings) *cobra.Command {
	o, count, asJSON := &oneIndex{}, false, false
	c := &cobra.Command{Use: "show TABLE.COLUMN NAME", Short: "Show one blind index of a column", Long: indexShowLong, Example: "  cipherfleet index show users.email email_bidx --count"}
	o.flags(c)
	c.Flags().BoolVar(&count, "count", false, "read the whole table for the rows that lack their token")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.read(c, args); err != nil {
			return err
		}
		return withIndexes(c, read, false, "", func(_ *station, r *index.Registry) error {
			x, err := r.Show(c.Context(), o.of, o.name, o.generation, count)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(indexDone{V: messages.Version, Table: o.of.Schema + "." + o.of.Table, Column: o.of.Column, Index: x})
			}
			return page.Index(c.OutOrStdout(), x)
		})
	}
	return c
}
