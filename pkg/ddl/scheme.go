package ddl

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// schemeSize is the length of a scheme's number, which stands in every cell behind its prefix.
const schemeSize = 2

// FormOf is how a column of cells holds them, by its type.
func FormOf(target pg.Column) cell.Form {
	switch target.TypeOID {
	case oidText:
		return cell.FormText
	case oidJSONB:
		return cell.FormJSON
	}
	return cell.FormBytes
}

// Types of columns that hold cells as text (pg_type.dat).
const (
	oidText  = 25
	oidJSONB = 3802
)

// textOf is the text form of a cell, compared byte by byte, of an expression that yields a column's value.
func textOf(expression string, form cell.Form) string {
	if form == cell.FormJSON {
		expression = fmt.Sprintf("(%s OPERATOR(pg_catalog.#>>) '{}'::pg_catalog.text[])", expression)
	}
	return fmt.Sprintf(`(%s COLLATE pg_catalog."C")`, expression)
}

// Scheme is the number of the scheme of a cell, as its two bytes, of an expression that yields one in this form. It
// needs no key. Of the text form it decodes the four characters that hold it.
func Scheme(expression string, form cell.Form) string {
	if form == cell.FormBytes {
		return fmt.Sprintf("pg_catalog.substr(%s, %d, %d)", expression, cell.PrefixSize+1, schemeSize)
	}
	return fmt.Sprintf("pg_catalog.substr(pg_catalog.decode(pg_catalog.translate(pg_catalog.substr(%s, %d, 4), '-_', '+/'), 'base64'), 1, %d)",
		textOf(expression, form), cell.TextPrefixSize+1, schemeSize)
}

// OtherScheme is the condition that an expression yields a cell of another scheme than this one.
func OtherScheme(expression string, form cell.Form, number uint16) string {
	return fmt.Sprintf(`%s IS NOT NULL AND %s OPERATOR(pg_catalog.<>) E'\\x%04x'::pg_catalog.bytea`, expression, Scheme(expression, form), number)
}

// Foreign is the condition that an expression yields what does not begin like a cell of the column with this id.
func Foreign(expression string, form cell.Form, id uint32) string {
	prefix := cell.Prefix(id)
	if form == cell.FormBytes {
		return fmt.Sprintf(`%[1]s IS NOT NULL AND (pg_catalog.octet_length(%[1]s) OPERATOR(pg_catalog.<) %[2]d OR pg_catalog.substr(%[1]s, 1, %[3]d) OPERATOR(pg_catalog.<>) E'\\x%[4]x'::pg_catalog.bytea)`,
			expression, cell.MinLength, cell.PrefixSize, prefix[:])
	}
	return fmt.Sprintf(`%s IS NOT NULL AND (pg_catalog.length(%[2]s) OPERATOR(pg_catalog.>=) %[3]d AND pg_catalog.left(%[2]s, %[4]d) OPERATOR(pg_catalog.=) '%[5]s') IS NOT TRUE`,
		expression, textOf(expression, form), leastText, cell.TextPrefixSize, cell.FormText.Append(nil, prefix[:]))
}
