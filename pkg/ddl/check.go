package ddl

import (
	"bytes"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// leastCell is the length of the shortest cell of any suite of the format, in bytes: a header and the tag of the
// deterministic suite. A scheme of another suite then needs no new constraint.
const leastCell = cell.HeaderSize + cell.TagSize

// CheckName is the constraint on a column's target. It carries the id, so it marks the column whatever its name, in
// every partition, and after a restore.
func CheckName(id uint32) string { return fmt.Sprintf("cipherfleet_%d_cell", id) }

// checkSQL adds the constraint: that a cell is LIKE the prefix with at least so many bytes behind it. NULL is like
// nothing, and no CHECK refuses that. A statement makes the condition ready anew each time, from its text, and that costs
// more than to ask: one comparison with one constant is what costs least. E” reads the same whatever
// standard_conforming_strings is.
const checkSQL = `ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s OPERATOR(pg_catalog.~~) E'\\x%x'::pg_catalog.bytea) NOT VALID`

// beginning is what the check of long cells looks at. The whole of one that is stored elsewhere would be read for every
// update of another column.
const beginning = "pg_catalog.substr(%s, 1, %d)"

// pattern is what every cell of the column is LIKE, or the beginning of one.
func (c Column) pattern() []byte {
	var pattern []byte
	prefix := cell.Prefix(c.ID)
	for _, b := range prefix {
		if b == '\\' || b == '%' || b == '_' {
			pattern = append(pattern, '\\')
		}
		pattern = append(pattern, b)
	}
	pattern = append(pattern, bytes.Repeat([]byte{'_'}, leastCell-len(prefix))...)
	if c.Long {
		return pattern
	}
	return append(pattern, '%')
}

// checkTextSQL is the same of the text form %[4]s. The four characters that hold a cell's scheme have to be of base64url:
// statements decode them.
const checkTextSQL = `ALTER TABLE %[1]s ADD CONSTRAINT %[2]s CHECK (%[3]s IS NULL` +
	` OR (pg_catalog.length(%[4]s) OPERATOR(pg_catalog.>=) %[5]d` +
	` AND pg_catalog.left(%[4]s, %[6]d) OPERATOR(pg_catalog.=) '%[7]s'` +
	` AND pg_catalog.substr(%[4]s, %[6]d + 1, 4) OPERATOR(pg_catalog.~) '^[A-Za-z0-9_-]{4}$') IS TRUE) NOT VALID`

// leastText is the length of the shortest cell of any suite in its text form: four characters for three bytes.
const leastText = len(cell.TextPrefix) + (4*leastCell+2)/3

// Check lets only NULL and what begins like a cell of this column, or is a payload of it, into the target, from now on. It takes an ACCESS
// EXCLUSIVE lock for a moment and reads no row; see [Column.Validate] for those that are there. The target of an
// expression may hold anything: there it only marks the target.
func (c Column) Check() Step {
	prefix := cell.Prefix(c.ID)
	name := pg.Ident(CheckName(c.ID))
	target := pg.Ident(c.Target)
	if c.Long {
		target = fmt.Sprintf(beginning, target, leastCell)
	}
	add := fmt.Sprintf(checkSQL, c.Table.SQL(), name, target, c.pattern())
	switch {
	case c.Expression != nil:
		add = fmt.Sprintf(markSQL, c.Table.SQL(), name, pg.Ident(c.Target))
	case c.Form != cell.FormBytes:
		text := textOf(pg.Ident(c.Target), c.Form)
		add = fmt.Sprintf(checkTextSQL, c.Table.SQL(), name, pg.Ident(c.Target), text, leastText, cell.TextPrefixSize, cell.FormText.Append(nil, prefix[:]))
	case c.Payload != PayloadCell:
		add = fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s) NOT VALID", c.Table.SQL(), name, c.payload())
	}
	return Step{
		Do:   []string{add},
		Undo: []string{fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", c.Table.SQL(), name)},
	}
}

// Validate proves the check for every row that was there before it. It reads the whole table beside readers and
// writers, in a transaction of its own. There is nothing to undo.
func (c Column) Validate() Step {
	return Step{Do: []string{fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", c.Table.SQL(), pg.Ident(CheckName(c.ID)))}}
}
