package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const schemeShredLong = `Delete every wrapped key of one tenant of a column, for good: nobody can open the tenant's cells any more. A tenant is a
value of the column that the scheme's --tenant names, as Postgres prints it.

From the same moment Postgres refuses cells under those keys, from whoever still holds one, so that no value is written
that nobody could read: the table is locked (SHARE ROW EXCLUSIVE) for a moment, no row is read, and a trigger stays
until the scheme is retired. Then the tokens that blind indexes hold of the tenant's values become NULL, a few blocks of
the table at a time, and the command waits until every program with a lease has dropped the keys (--wait).

The cells stay where they are, unless --clear-cells has them become NULL with the tokens. Only without them can the
scheme be retired, a blind index be built anew, and a rotation end with nothing set aside.

While the column has its plaintext beside the cells, the values are still there, unless --clear-cells takes them along:
delete them yourself, or cipherfleet drop first; a warning names the column. What this cannot reach either are backups
and replicas of the database: the wrapped keys are in them until they are gone, and whoever may use the key-encryption
key can unwrap them. Where the law wants more, keep cipherfleet.deks out of long-lived backups, or destroy the
key-encryption key too.

Killed at any moment, the same command goes on.

Exit codes: as of cipherfleet scheme · 3: the keys are deleted, and a program that is there still holds one`

const schemeShredExample = `  cipherfleet scheme shred orders.note --tenant 4711 --reason "request for erasure of 3 May"
  cipherfleet scheme shred orders.note --tenant 4711 --reason "request for erasure of 3 May" --clear-cells`

// shredDone is what shred did, or would do.
type shredDone struct {
	scheme.Shredding
	DryRun bool `json:"dry_run"`
}

type shredOptions struct {
	column                *oneColumn
	tenant, reason        string
	wait                  time.Duration
	cells, dryRun, asJSON bool
}

func newSchemeShred(read settings) *cobra.Command {
	o := &shredOptions{column: &oneColumn{}}
	c := &cobra.Command{Use: "shred TABLE.COLUMN --tenant VALUE --reason TEXT", Short: "Delete the keys of one tenant, for good", Long: schemeShredLong,
		DisableFlagsInUseLine: true, Example: schemeShredExample}
	f := c.Flags()
	o.column.flags(f)
	f.StringVar(&o.tenant, "tenant", "", "whose keys")
	f.StringVar(&o.reason, "reason", "", "why, for the log; it does not name the tenant, nor should this")
	f.BoolVar(&o.cells, "clear-cells", false, "make the tenant's cells NULL too, where cells are what is read (cut-over, dropped)")
	f.DurationVar(&o.wait, "wait", time.Minute, "how long to wait for programs that still hold the keys")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, print the SQL, say what would be deleted, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		name, err := o.column.name(c, args)
		if err != nil {
			return err
		}
		if err := required(c, "tenant", "reason"); err != nil {
			return err
		}
		switch {
		case o.tenant == "" || o.reason == "":
			return usage(errors.New("--tenant and --reason must not be empty"), c)
		case o.wait < 0:
			return usage(errors.New("--wait was below zero; accepted is a duration, as in 90s"), c)
		}
		return withRegistry(c, read, false, o.reason, func(_ *station, r *scheme.Registry) error {
			p, err := r.PlanShred(c.Context(), name, o.tenant, o.cells)
			if err != nil {
				return err
			}
			return o.run(c, r, p)
		})
	}
	return c
}

// run prints what was done also where somebody still holds a key.
func (o *shredOptions) run(c *cobra.Command, r *scheme.Registry, p scheme.ShredPlan) (err error) {
	done := p.Shredding
	if o.dryRun {
		for _, statement := range p.Statements {
			fmt.Fprintf(c.ErrOrStderr(), "-- lock: %s\n%s;\n", statement.Lock, statement.SQL)
		}
	} else if done, err = r.Shred(c.Context(), p, o.wait); err != nil && !unnoticed(err) {
		return err
	}
	if o.asJSON {
		return errors.Join(json.NewEncoder(c.OutOrStdout()).Encode(shredDone{done, o.dryRun}), err)
	}
	return errors.Join(printShred(c, done, o.dryRun), err)
}

// unnoticed says that all was done, but for a program that has not noticed.
func unnoticed(err error) bool {
	var late *lifecycle.NotReadyError
	return errors.As(err, &late)
}

func printShred(c *cobra.Command, s scheme.Shredding, dryRun bool) (err error) {
	w := c.OutOrStdout()
	switch {
	case s.Keys == 0:
		_, err = fmt.Fprintf(w, "%s.%s: the tenant's keys are deleted already\n", s.Table, s.Column)
	case dryRun:
		_, err = fmt.Fprintf(w, "%s.%s: would delete %d keys of the tenant\n", s.Table, s.Column, s.Keys)
	default:
		_, err = fmt.Fprintf(w, "%s.%s: deleted %d keys of the tenant; backups of the database still have them, wrapped, until they are gone\n", s.Table, s.Column, s.Keys)
	}
	switch {
	case err != nil:
	case s.Cleared > 0 && s.Cells:
		_, err = fmt.Fprintf(w, "%d rows have no cell of the tenant any more\n", s.Cleared)
	case s.Cleared > 0:
		_, err = fmt.Fprintf(w, "%d rows have no token of the tenant any more; --clear-cells makes their cells NULL too, which index build, rotate and retire want\n", s.Cleared)
	}
	if err == nil && s.Beside != "" {
		_, err = fmt.Fprintf(c.ErrOrStderr(), "warning: column %s holds the tenant's values too, while cells move, under keys of its own: shred the tenant there as well\n", s.Beside)
	}
	switch {
	case err != nil || s.Plain == "":
	case s.Cells:
		_, err = fmt.Fprintf(c.ErrOrStderr(), "warning: what stands beside the tenant's cells in column %s becomes NULL with them; a value that was written there past its cell is not reached\n", s.Plain)
	default:
		_, err = fmt.Fprintf(c.ErrOrStderr(), "warning: the tenant's values still stand in column %s, as plaintext: a key that is gone does not reach them\n", s.Plain)
	}
	return err
}
