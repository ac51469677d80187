package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/messages"
)

const schemeRetireLong = `Retire a scheme, proved by Postgres: a CHECK constraint that lets no cell of it in is added to the table without reading
a row, and then validated beside readers and writers. While one such cell is left, that fails, the constraint is taken
away, and nothing was changed. From then on whoever still writes one is refused, and nobody loads its keys any more.

It must not be the scheme that is written with. It waits until every program that holds a lease has heard of that one,
at most for as long as --wait says. Who has not is named; then nothing was changed.

The two changes of the table take an ACCESS EXCLUSIVE lock for a moment each, waited for half a second at a time; the
validation reads every row under SHARE UPDATE EXCLUSIVE, which lets reads and writes go on, but no other DDL and no
vacuum.

The constraint stays. Later schemes need no other one, so rotating again does not alter the table.

Killed in between, the same command goes on.

Exit codes: as of cipherfleet scheme`

func newSchemeRetire(read settings) *cobra.Command {
	o, reason, wait, dryRun, asJSON := &oneScheme{}, "", time.Duration(0), false, false
	c := &cobra.Command{Use: "retire TABLE.COLUMN NUMBER", Short: "Prove that no cell of a scheme is left, and let none in any more", Long: schemeRetireLong,
		Example: "  cipherfleet scheme retire users.email 1 --dry-run\n  cipherfleet scheme retire users.email 1 --reason \"key rotation of spring\""}
	f := c.Flags()
	o.column.flags(f)
	f.DurationVar(&wait, "wait", time.Minute, "how long to wait for programs that may still write the scheme")
	f.StringVar(&reason, "reason", "", "why, for the log")
	f.BoolVar(&dryRun, "dry-run", false, "check, print the SQL, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print the scheme as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.read(c, args); err != nil {
			return err
		}
		if wait < 0 {
			return usage(errors.New("--wait was below zero; accepted is a duration, as in 90s"), c)
		}
		return withRegistry(c, read, false, reason, func(_ *station, r *scheme.Registry) error {
			if dryRun {
				wait = 0
			}
			var p scheme.RetirePlan
			var done schemeDone
			err := scheme.Await(c.Context(), wait, func() (err error) {
				if p, err = r.PlanRetire(c.Context(), o.name, o.number); err != nil {
					return err
				}
				done = schemeDone{messages.Version, p.Table, p.Column, dryRun, !p.Already, p.Scheme}
				if !dryRun {
					done.Scheme, err = r.Retire(c.Context(), p)
				}
				return err
			})
			if err != nil {
				return err
			}
			if dryRun {
				for _, statement := range p.Statements {
					fmt.Fprintf(c.ErrOrStderr(), "-- lock: %s\n%s;\n", statement.Lock, statement.SQL)
				}
			}
			return printScheme(c, asJSON, done, "retired", "free of cells of scheme %d, proved by Postgres: the scheme is retired")
		})
	}
	return c
}
