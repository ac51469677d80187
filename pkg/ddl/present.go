package ddl

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// PresentName is the constraint by which the cells of a column become NOT NULL without a scan under a lock.
func PresentName(id uint32) string { return fmt.Sprintf("cipherfleet_%d_present", id) }

// Present lets no row without a cell in from now on, and reads none that is there. It takes an ACCESS EXCLUSIVE lock
// for a moment. Table may be a partition.
func (c Column) Present() Step {
	name := pg.Ident(PresentName(c.ID))
	return Step{
		Do:   []string{fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s IS NOT NULL) NOT VALID", c.Table.SQL(), name, pg.Ident(c.Target))},
		Undo: []string{fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", c.Table.SQL(), name)},
	}
}

// ValidatePresent proves that for every row, beside readers and writers, in a transaction of its own.
func (c Column) ValidatePresent() Step {
	return Step{Do: []string{fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", c.Table.SQL(), pg.Ident(PresentName(c.ID)))}}
}

// Require makes the cell column NOT NULL. The validated constraint spares the scan, and goes; that is two statements,
// for one would drop it first. Undone, rows without a cell are let in again, whether this was carried to its end or not.
func (c Column) Require() Step {
	alter := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s ", c.Table.SQL(), pg.Ident(c.Target))
	return Step{
		Do:   append([]string{alter + "SET NOT NULL"}, c.Present().Undo...),
		Undo: append(c.Present().Undo, alter+"DROP NOT NULL"),
	}
}
