package ddl

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// BareName is the constraint that keeps cells out of a plaintext column.
func BareName(id uint32) string { return fmt.Sprintf("cipherfleet_%d_bare", id) }

const (
	bareBytesSQL = `ALTER TABLE %s ADD CONSTRAINT %s CHECK (pg_catalog.substr(%s, 1, %d) OPERATOR(pg_catalog.<>) E'\\x%x'::pg_catalog.bytea) NOT VALID`
	bareFormSQL  = `ALTER TABLE %s ADD CONSTRAINT %s CHECK (pg_catalog.left(%s::pg_catalog.text, %d) COLLATE pg_catalog."C" OPERATOR(pg_catalog.<>) '%s') NOT VALID`
	bareTextSQL  = `ALTER TABLE %s ADD CONSTRAINT %s CHECK (pg_catalog.left(%s::pg_catalog.text, %d) OPERATOR(pg_catalog.<>) E'\\x%x') NOT VALID`
)

// Bare keeps cells of the column out of its plaintext, the source, from now on. A statement that was prepared while the
// name meant the cells goes on sending them after a rollback, and Postgres takes them: as they are into bytea, and as
// hexadecimal digits into any kind of text; cells in their text form go into text as they are. It takes an ACCESS EXCLUSIVE lock for a moment and reads no row.
func (c Column) Bare(isBytes bool) Step {
	prefix, name := cell.Prefix(c.ID), pg.Ident(BareName(c.ID))
	add := fmt.Sprintf(bareTextSQL, c.Table.SQL(), name, pg.Ident(c.Source), 2+2*cell.PrefixSize, prefix[:])
	switch {
	case c.Form != cell.FormBytes:
		text := cell.FormText.Append(nil, prefix[:])
		if c.Form == cell.FormJSON {
			text = append([]byte{'"'}, text...)
		}
		add = fmt.Sprintf(bareFormSQL, c.Table.SQL(), name, pg.Ident(c.Source), len(text), text)
	case isBytes:
		add = fmt.Sprintf(bareBytesSQL, c.Table.SQL(), name, pg.Ident(c.Source), cell.PrefixSize, prefix[:])
	}
	return Step{Do: []string{add}, Undo: []string{fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", c.Table.SQL(), name)}}
}
