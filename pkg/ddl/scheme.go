package ddl

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// schemeSize is the length of a scheme's number, which stands in every cell behind its prefix.
const schemeSize = 2

// Scheme is the number of the scheme of a cell, as its two bytes, of an expression that yields one.
func Scheme(expression string) string {
	return fmt.Sprintf("pg_catalog.substr(%s, %d, %d)", expression, cell.PrefixSize+1, schemeSize)
}

// OtherScheme is the condition that an expression yields a cell of another scheme than this one. It needs no key.
func OtherScheme(expression string, number uint16) string {
	return fmt.Sprintf(`%s IS NOT NULL AND %s OPERATOR(pg_catalog.<>) E'\\x%04x'::pg_catalog.bytea`, expression, Scheme(expression), number)
}
