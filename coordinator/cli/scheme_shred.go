package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
)

const schemeShredLong = `Delete every wrapped key of one tenant of a column, for good: nobody can open the tenant's cells any more, though they stay
where they are. A tenant is a value of the column that the scheme's --tenant names, as Postgres prints it.

Programs that hold a key drop it at their next refresh, within seconds; one that is cut off from Postgres, when it is
back. While the column has its plaintext beside the cells, the values are still there: delete them yourself, or
cipherfleet drop first; a warning names the column. What this cannot reach either are backups and replicas of the database: the wrapped keys are in them until they are
gone, and whoever may use the key-encryption key can unwrap them. Where the law wants more, keep cipherfleet.deks out
of long-lived backups, or destroy the key-encryption key too.

Exit codes: as of cipherfleet scheme`

// shredDone is what shred did, or would do.
type shredDone struct {
	scheme.Shredding
	DryRun bool `json:"dry_run"`
}

func newSchemeShred(read settings) *cobra.Command {
	column, tenant, reason, dryRun, asJSON := &oneColumn{}, "", "", false, false
	c := &cobra.Command{Use: "shred TABLE.COLUMN --tenant VALUE --reason TEXT", Short: "Delete the keys of one tenant, for good", Long: schemeShredLong,
		DisableFlagsInUseLine: true, Example: "  cipherfleet scheme shred orders.note --tenant 4711 --reason \"request for erasure of 3 May\""}
	f := c.Flags()
	column.flags(f)
	f.StringVar(&tenant, "tenant", "", "whose keys")
	f.StringVar(&reason, "reason", "", "why, for the log; it does not name the tenant, nor should this")
	f.BoolVar(&dryRun, "dry-run", false, "check, say what would be deleted, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		name, err := column.name(c, args)
		if err != nil {
			return err
		}
		if err := required(c, "tenant", "reason"); err != nil {
			return err
		}
		if tenant == "" || reason == "" {
			return usage(fmt.Errorf("--tenant and --reason must not be empty"), c)
		}
		return withRegistry(c, read, false, reason, func(_ *station, r *scheme.Registry) error {
			do := r.Shred
			if dryRun {
				do = r.PlanShred
			}
			s, err := do(c.Context(), name, tenant)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(shredDone{s, dryRun})
			}
			return printShred(c, s, dryRun)
		})
	}
	return c
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
	if err == nil && s.Plain != "" {
		_, err = fmt.Fprintf(c.ErrOrStderr(), "warning: the tenant's values still stand in column %s, as plaintext: a key that is gone does not reach them\n", s.Plain)
	}
	return err
}
