package pg

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// Ident quotes a name, or a qualified name, for use in SQL. It is the only way an identifier enters a statement.
func Ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// Idents quotes each name on its own and joins them with commas.
func Idents(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = Ident(name)
	}
	return strings.Join(quoted, ", ")
}

// Literal quotes a text constant for the few statements (DDL) that take no parameters.
func Literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// Table names a table by its literal, unfolded names.
type Table struct{ Schema, Name string }

// SQL is the quoted, qualified name.
func (t Table) SQL() string { return Ident(t.Schema, t.Name) }

// String is the canonical name used in events, messages and the command line: schema.table.
func (t Table) String() string { return t.Schema + "." + t.Name }
