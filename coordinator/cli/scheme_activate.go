package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/messages"
)

const schemeActivateLong = `Have a column sealed with a scheme from now on, by the fleet and by every application. Cells of the schemes before it
can be read as before; cipherfleet rotate seals them anew.

It waits until every program that holds a lease can read the scheme, at most for as long as --wait says. Who cannot is
named; then nothing was changed. A program that is gone holds its lease for a few seconds more.

Exit codes: as of cipherfleet scheme`

func newSchemeActivate(read settings) *cobra.Command {
	o, reason, wait, dryRun, asJSON := &oneScheme{}, "", time.Duration(0), false, false
	c := &cobra.Command{Use: "activate TABLE.COLUMN NUMBER", Short: "Have a column sealed with a scheme from now on", Long: schemeActivateLong,
		Example: "  cipherfleet scheme activate users.email 2\n  cipherfleet scheme activate users.email 2 --wait 5m --reason \"key rotation of spring\""}
	f := c.Flags()
	o.column.flags(f)
	f.DurationVar(&wait, "wait", time.Minute, "how long to wait for programs that cannot read it yet")
	f.StringVar(&reason, "reason", "", "why, for the log")
	f.BoolVar(&dryRun, "dry-run", false, "check what can be checked, say what would be done, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print the scheme as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.read(c, args); err != nil {
			return err
		}
		if wait < 0 {
			return usage(errors.New("--wait was below zero; accepted is a duration, as in 90s"), c)
		}
		return withRegistry(c, read, true, reason, func(_ *station, r *scheme.Registry) error {
			p, err := r.PlanActivate(c.Context(), o.name, o.number)
			if err != nil {
				return err
			}
			done := schemeDone{messages.Version, p.Table, p.Column, dryRun, !p.Already, p.Scheme}
			if !dryRun {
				if done.Scheme, err = r.Activate(c.Context(), p, wait); err != nil {
					return err
				}
			}
			return printScheme(c, asJSON, done, "active", "sealed with scheme %d from now on")
		})
	}
	return c
}

// printScheme says what became of a scheme, or would.
func printScheme(c *cobra.Command, asJSON bool, done schemeDone, state, what string) (err error) {
	if asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(done)
	}
	of := done.Table + "." + done.Column
	switch {
	case !done.Change:
		_, err = fmt.Fprintf(c.OutOrStdout(), "scheme %d of %s is %s already\n", done.Scheme.Number, of, state)
	case done.DryRun:
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s would be "+what+"; nothing was changed\n", of, done.Scheme.Number)
	default:
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is "+what+"\n", of, done.Scheme.Number)
	}
	return err
}
