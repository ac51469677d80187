package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/messages"
)

const indexDropLong = `Drop a blind index: its column of tokens, what Postgres has built of it, and its key, for good. The cells stay as they
are.

First nobody writes it or looks anything up in it any more, as soon as every program that holds a lease has heard of
that; those that have not are named and waited for, at most for as long as --wait says. Killed or given up in between,
the same command goes on; until then the index is retiring.

Of two generations the old one is dropped when the new one is ready, and not before.

Exit codes: as of cipherfleet index`

func newIndexDrop(read settings) *cobra.Command {
	o, reason, wait, dryRun, asJSON := &oneIndex{}, "", time.Duration(0), false, false
	c := &cobra.Command{Use: "drop TABLE.COLUMN NAME", Short: "Drop a blind index with its tokens and its key", Long: indexDropLong,
		Example: "  cipherfleet index drop users.email email_bidx --dry-run\n  cipherfleet index drop users.email email_bidx --generation 1 --reason \"key rotation of spring\""}
	f := c.Flags()
	o.flags(c)
	f.DurationVar(&wait, "wait", time.Minute, "how long to wait for programs that still work with it")
	f.StringVar(&reason, "reason", "", "why, for the log")
	f.BoolVar(&dryRun, "dry-run", false, "check, print the SQL, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print the index as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.read(c, args); err != nil {
			return err
		}
		if wait < 0 {
			return usage(errors.New("--wait was below zero; accepted is a duration, as in 90s"), c)
		}
		return withIndexes(c, read, false, reason, func(s *station, r *index.Registry) error {
			var p index.DropPlan
			patience := s.patience(c.ErrOrStderr())
			plan := func() (err error) { p, err = r.PlanDrop(c.Context(), o.of, o.name, o.generation); return err }
			if err := patience.Through(c.Context(), plan); err != nil {
				return err
			}
			done := indexDone{V: messages.Version, Table: p.Table, Column: p.Column, DryRun: dryRun, Change: !p.Already, Index: p.Index}
			if dryRun {
				for _, statement := range p.Statements {
					fmt.Fprintln(c.ErrOrStderr(), statement+";")
				}
				return printDropped(c, asJSON, done)
			}
			err := patience.Through(c.Context(), func() (err error) { done.Index, err = r.Drop(c.Context(), p, wait); return err })
			if err != nil {
				return err
			}
			return printDropped(c, asJSON, done)
		})
	}
	return c
}

func printDropped(c *cobra.Command, asJSON bool, done indexDone) (err error) {
	if asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(done)
	}
	of := done.Table + "." + done.Column
	switch {
	case !done.Change:
		_, err = fmt.Fprintf(c.OutOrStdout(), "blind index %s of %s is dropped already\n", done.Index.Name, of)
	case done.DryRun:
		_, err = fmt.Fprintf(c.OutOrStdout(), "blind index %s of %s would be dropped; nothing was changed\n", done.Index.Name, of)
	default:
		_, err = fmt.Fprintf(c.OutOrStdout(), "dropped blind index %s of %s, with its key\n", done.Index.Name, of)
	}
	return err
}
