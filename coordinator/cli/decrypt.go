package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/restore"
)

const decryptLong = `Bring the plaintext of a dropped column back from its cells: an operator's act, recorded with who did it and why. It
takes a right of its own, INSERT on cipherfleet.decryptions. No worker opens cells of a dropped column into plaintext
without such a record, whatever a message or a job says.

The plaintext's column is added again, with the type it had, and watched; then every cell is opened into it, by the
fleet (NATS_URL) or by this process, and the names are swapped back as by cipherfleet rollback: the column is
backfilled, its cells beside it. cipherfleet rollback --to schema-added --drop-target then takes those away, if they are
not wanted any more. Indexes and constraints that were dropped with the plaintext do not come back: make them
anew. A column that is cut over and was not dropped yet is rolled back: cipherfleet rollback does the same, and needs no
such right.

Before cells are opened it waits until every program with a lease has noticed that the plaintext is back (--wait): one
that had not would write cells under the name that is the plaintext's after the swap.

The table is locked (ACCESS EXCLUSIVE) for a moment when the column is added, and for another when the names are
swapped. In between rows are locked a chunk at a time; every row gets a new version, as in a backfill.

A job that the fleet began by itself over the same table is waited for, two minutes at most. Killed at any moment, the
same command goes on. SIGINT drains the job and pauses it.

Exit codes: 0 the plaintext is back · 2 bad flag, name or environment · 3 the column is written faster than its cells
are opened, or a program has not noticed · 4 refused, nothing changed · 5 rows are in quarantine, or the job failed ·
6 Postgres, NATS or key unavailable · 7 denied · 75 paused, the same command resumes · 130 a second signal, the same
command resumes`

const decryptExample = `  cipherfleet decrypt users.email --reason "the column is not personal data" --dry-run
  cipherfleet decrypt crm.contacts.phone --reason "order 17 of the court" --json`

func newDecrypt(read settings) *cobra.Command {
	o := &rollbackOptions{}
	c := &cobra.Command{Use: "decrypt TABLE.COLUMN --reason TEXT", Short: "Bring the plaintext of a dropped column back", Long: decryptLong, Example: decryptExample, DisableFlagsInUseLine: true}
	f := c.Flags()
	o.column.flags(f)
	f.StringVar(&o.request.Reason, "reason", "", "why; it stays in the log")
	f.StringVar(&o.request.UserTriggers, "user-triggers", "", "fire or skip: what becomes of the table's own triggers when cells are opened (default: as in its last job)")
	o.waits(f)
	f.BoolVar(&o.dryRun, "dry-run", false, "check, say what would be done, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print what was done as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		name, err := o.column.name(c, args)
		if err != nil {
			return err
		}
		if err := required(c, "reason"); err != nil {
			return err
		}
		if o.request.Reason == "" {
			return usage(errors.New("--reason must not be empty"), c)
		}
		s, err := read.open(c)
		if err != nil {
			return err
		}
		l := &ladder.Ladder{DB: s.db}
		p, err := restore.Plan(c.Context(), l, name)
		if err == nil && o.dryRun {
			fmt.Fprintf(c.ErrOrStderr(), "decrypt %s, which is %s, into column %s; about %d rows\n", name, p.State.Phase, p.Plain, p.Relation.Rows())
			for _, step := range p.Steps {
				fmt.Fprintln(c.ErrOrStderr(), "  "+step)
			}
			fmt.Fprintln(c.ErrOrStderr(), "  open every cell into it (a job; rows are locked a chunk at a time)\n"+
				"  swap the names back (ACCESS EXCLUSIVE, for a moment)\nnothing was changed")
		} else if err == nil {
			restored := func() error { return restore.Restore(c.Context(), l, p, o.request.Reason) }
			err = s.patience(c.ErrOrStderr()).Through(c.Context(), restored)
		}
		s.close(c.Context())
		if err != nil || o.dryRun {
			return err
		}
		return o.run(c, args, read)
	}
	return c
}
