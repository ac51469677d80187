package ddl

import (
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// printedSQL is checkSQL's condition as Postgres prints it where the search path is pg_catalog and bytea_output is hex.
const printedSQL = `((%[1]s IS NULL) OR ((octet_length(%[1]s) >= %[2]d) AND (substr(%[1]s, 1, %[3]d) = '\x%[4]x'::bytea)))`

// IsCheck says whether a condition is that of [Column.Check]: as pg_get_expr prints it with search_path pg_catalog and
// bytea_output hex. Of the column only ID and Target count.
func (c Column) IsCheck(printed string) bool {
	prefix := cell.Prefix(c.ID)
	names := []string{c.Target, pg.Ident(c.Target)} // Postgres quotes where it has to
	return slices.ContainsFunc(names, func(name string) bool {
		return printed == fmt.Sprintf(printedSQL, name, leastCell, cell.PrefixSize, prefix[:])
	})
}
