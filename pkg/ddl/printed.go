package ddl

import (
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// What checkSQL's condition is, as Postgres prints it where the search path is pg_catalog and bytea_output is hex: of all
// cells, of their beginning, and as versions before 0.1 wrote it.
const (
	printedSQL      = `(%[1]s ~~ '\x%[2]x'::bytea)`
	printedLongSQL  = `(substr(%[1]s, 1, %[3]d) ~~ '\x%[2]x'::bytea)`
	printedOlderSQL = `((%[1]s IS NULL) OR ((octet_length(%[1]s) >= %[2]d) AND (substr(%[1]s, 1, %[3]d) = '\x%[4]x'::bytea)))`
)

// printedTextSQL is the same of checkTextSQL, of the text form %[2]s.
const printedTextSQL = `((%[1]s IS NULL) OR (((length(%[2]s) >= %[3]d) AND ("left"(%[2]s, %[4]d) = '%[5]s'::text) AND (substr(%[2]s, (%[4]d + 1), 4) ~ '^[A-Za-z0-9_-]{4}$'::text)) IS TRUE))`

// printedText and printedScheme are [textOf] and [Scheme], as they are printed.
func printedText(name string, form cell.Form) string {
	if form == cell.FormJSON {
		name = "(" + name + " #>> '{}'::text[])"
	}
	return "(" + name + ` COLLATE "C")`
}

func printedScheme(name string, form cell.Form) string {
	if form == cell.FormBytes {
		return fmt.Sprintf("substr(%s, %d, 2)", name, cell.PrefixSize+1)
	}
	return fmt.Sprintf("substr(decode(translate(substr(%s, %d, 4), '-_'::text, '+/'::text), 'base64'::text), 1, 2)", printedText(name, form), cell.TextPrefixSize+1)
}

// IsCheck says whether a condition is that of [Column.Check], or was that of an older version: as pg_get_expr prints it
// with search_path pg_catalog and bytea_output hex. Of the column only ID, Target and Form count.
func (c Column) IsCheck(printed string) bool {
	prefix := cell.Prefix(c.ID)
	names := []string{c.Target, pg.Ident(c.Target)} // Postgres quotes where it has to
	return slices.ContainsFunc(names, func(name string) bool {
		if c.Form != cell.FormBytes {
			return printed == fmt.Sprintf(printedTextSQL, name, printedText(name, c.Form), leastText, cell.TextPrefixSize, cell.FormText.Append(nil, prefix[:]))
		}
		short, long := c, c
		short.Long, long.Long = false, true
		return printed == fmt.Sprintf(printedSQL, name, short.pattern()) || printed == fmt.Sprintf(printedLongSQL, name, long.pattern(), leastCell) ||
			printed == fmt.Sprintf(printedOlderSQL, name, leastCell, cell.PrefixSize, prefix[:])
	})
}
