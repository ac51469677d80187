package ddl

import (
	"cmp"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Column is one column to prepare. Names are the present ones, literal and unquoted.
type Column struct {
	ID             uint32   // its number in the registry, part of each of its cells
	Table          pg.Table // the table; of a partitioned table its root
	Source, Target string
	Key            []string // the columns of the key that the job walks, each part of the cell's address

	Form         cell.Form // how the target holds cells
	Payload      Payload   // what the target holds, if it is not a cell
	TargetType   string    // of a target that is to be added, as SQL; "": bytea
	BytesInBytes bool      // source and target of a payload are both bytea

	Beside []string          // further columns that a cell depends on: those of vectors and salts of a source that somebody else encrypted
	Long   bool              // cells may be so long that a row holds them elsewhere: the check reads no more than their beginning
	Types  map[string]uint32 // of source, target and key by their names, as far as they are known; what is known is compared sooner

	Expression *Expression // what makes the target's values inside Postgres; nil: something else does
	Where      *Condition  // which rows need a cell; nil: all

	Nulls bool // NULL is sealed, too: every row needs a cell, whatever its source
}

// Step is a change and what takes it back: statements in order, for one transaction.
type Step struct{ Do, Undo []string }

// AddTarget adds the target column: nullable, and stored uncompressed where it holds cells, for those never compress. It
// takes an ACCESS EXCLUSIVE lock for a moment and rewrites nothing. Undone, the column is gone with whatever it holds, and
// with it what was left of a condition.
func (c Column) AddTarget() Step {
	target := pg.Ident(c.Target)
	add := fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s pg_catalog.%s, ALTER COLUMN %s SET STORAGE EXTERNAL", c.Table.SQL(), target, c.Form, target)
	if c.Payload != PayloadCell || c.Expression != nil {
		add = fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", c.Table.SQL(), target, cmp.Or(c.TargetType, "pg_catalog.bytea"))
	}
	return Step{
		Do:   []string{add},
		Undo: []string{fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", c.Table.SQL(), target), dropWithin(c.ID)},
	}
}

// Store sets the storage of a target that was there before. Cells written until then stay as they are.
func (c Column) Store() Step {
	alter := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET STORAGE ", c.Table.SQL(), pg.Ident(c.Target))
	return Step{Do: []string{alter + "EXTERNAL"}, Undo: []string{alter + "EXTENDED"}}
}
