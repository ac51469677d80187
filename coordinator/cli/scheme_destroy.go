package cli

import (
	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/messages"
)

const schemeDestroyLong = `Delete the wrapped keys of a retired scheme, for good. What was ever sealed with it, in backups, replicas and logs, can
then be opened by nobody; backups of the registry still have the keys.

It is refused before the time is over for which the scheme's keys are retained, and unless Postgres has proved, and
still guards, that no cell of the scheme is left in the table.

The schemes of a column whose cells have moved into one of another type are retired when the old cells are dropped;
--moved names that column, by the name it went by.

Exit codes: as of cipherfleet scheme`

func newSchemeDestroy(read settings) *cobra.Command {
	o, reason, moved, dryRun, asJSON := &oneScheme{}, "", false, false, false
	c := &cobra.Command{Use: "destroy TABLE.COLUMN NUMBER", Short: "Delete the keys of a retired scheme, for good", Long: schemeDestroyLong,
		Example: "  cipherfleet scheme destroy users.email 1 --dry-run\n  cipherfleet scheme destroy users.email 1 --reason \"no backup is that old any more\""}
	f := c.Flags()
	o.column.flags(f)
	f.StringVar(&reason, "reason", "", "why, for the log")
	f.BoolVar(&moved, "moved", false, "the column of that name whose cells have moved into another one and were dropped")
	f.BoolVar(&dryRun, "dry-run", false, "check, say what would be done, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print the scheme as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.read(c, args); err != nil {
			return err
		}
		return withRegistry(c, read, false, reason, func(_ *station, r *scheme.Registry) error {
			r.Gone = moved
			p, err := r.PlanDestroy(c.Context(), o.name, o.number)
			if err != nil {
				return err
			}
			done := schemeDone{messages.Version, p.Table, p.Column, dryRun, !p.Already, p.Scheme}
			if !dryRun {
				if done.Scheme, err = r.Destroy(c.Context(), p); err != nil {
					return err
				}
			}
			return printScheme(c, asJSON, done, "destroyed", "without the keys of scheme %d, for good")
		})
	}
	return c
}
