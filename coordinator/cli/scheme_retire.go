package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/messages"
)

const schemeRetireLong = `Retire a scheme, proved by Postgres: a CHECK constraint that lets no cell of it in is added to the table without reading a
row, and then validated beside readers and writers. While one such cell is left, that fails, the constraint is taken
away, and nothing was changed. From then on whoever still writes one is refused, and nobody loads its keys any more.

It must not be the scheme that is written with, and every program that holds a lease must have heard of that one.
The constraint stays. Later schemes need no other one, so rotating again does not alter the table.

Killed in between, the same command goes on.

Exit codes: as of cipherfleet scheme`

func newSchemeRetire(read settings) *cobra.Command {
	o, reason, dryRun, asJSON := &oneScheme{}, "", false, false
	c := &cobra.Command{Use: "retire TABLE.COLUMN NUMBER", Short: "Prove that no cell of a scheme is left, and let none in any more", Long: schemeRetireLong,
		Example: "  cipherfleet scheme retire users.email 1 --dry-run\n  cipherfleet scheme retire users.email 1 --reason \"key rotation of spring\""}
	f := c.Flags()
	o.column.flags(f)
	f.StringVar(&reason, "reason", "", "why, for the log")
	f.BoolVar(&dryRun, "dry-run", false, "check, print the SQL, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print the scheme as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.read(c, args); err != nil {
			return err
		}
		return withRegistry(c, read, false, reason, func(_ *station, r *scheme.Registry) error {
			p, err := r.PlanRetire(c.Context(), o.name, o.number)
			if err != nil {
				return err
			}
			done := schemeDone{messages.Version, p.Table, p.Column, dryRun, !p.Already, p.Scheme}
			if dryRun {
				for _, statement := range p.Statements {
					fmt.Fprintln(c.ErrOrStderr(), statement+";")
				}
			} else if done.Scheme, err = r.Retire(c.Context(), p); err != nil {
				return err
			}
			return printScheme(c, asJSON, done, "retired", "free of cells of scheme %d, proved by Postgres: the scheme is retired")
		})
	}
	return c
}
