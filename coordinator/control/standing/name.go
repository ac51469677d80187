package standing

import (
	"fmt"
	"strings"
)

// Name names a column of a table as an operator does: by the name that its plaintext had when it was registered,
// or has today. Names are literal.
type Name struct{ Schema, Table, Column string }

// String is the name as a person reads it.
func (n Name) String() string { return n.Schema + "." + n.Table + "." + n.Column }

// Command is the command line of a verb for this column, for a shell; names with a dot in them need flags.
func (n Name) Command(verb string) string {
	if Quoted(n.String()) != n.String() || strings.Count(n.String(), ".") != 2 {
		return fmt.Sprintf("cipherfleet %s --schema %s --table %s --column %s", verb, Quoted(n.Schema), Quoted(n.Table), Quoted(n.Column))
	}
	return "cipherfleet " + verb + " " + strings.TrimPrefix(n.String(), "public.")
}

// Backfill is the command line that encrypts this column.
func (n Name) Backfill() string {
	if n.Schema == "public" {
		return fmt.Sprintf("cipherfleet backfill --table %s --column %s", Quoted(n.Table), Quoted(n.Column))
	}
	return fmt.Sprintf("cipherfleet backfill --schema %s --table %s --column %s", Quoted(n.Schema), Quoted(n.Table), Quoted(n.Column))
}

// Quoted is a word for a shell.
func Quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:,+", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
