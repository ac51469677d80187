package control

import (
	"fmt"
	"strings"
)

// ColumnName names a column of a table as an operator does: by the name that its plaintext had when it was registered,
// or has today. Names are literal.
type ColumnName struct{ Schema, Table, Column string }

// String is the name as a person reads it.
func (n ColumnName) String() string { return n.Schema + "." + n.Table + "." + n.Column }

// command is the command line of a verb for this column, for a shell; names with a dot in them need flags.
func (n ColumnName) command(verb string) string {
	if quoted(n.String()) != n.String() || strings.Count(n.String(), ".") != 2 {
		return fmt.Sprintf("cipherfleet %s --schema %s --table %s --column %s", verb, quoted(n.Schema), quoted(n.Table), quoted(n.Column))
	}
	return "cipherfleet " + verb + " " + strings.TrimPrefix(n.String(), "public.")
}

// backfill is the command line that encrypts this column.
func (n ColumnName) backfill() string {
	if n.Schema == "public" {
		return fmt.Sprintf("cipherfleet backfill --table %s --column %s", quoted(n.Table), quoted(n.Column))
	}
	return fmt.Sprintf("cipherfleet backfill --schema %s --table %s --column %s", quoted(n.Schema), quoted(n.Table), quoted(n.Column))
}

// quoted is a word for a shell.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:,+", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
