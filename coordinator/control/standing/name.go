package standing

import (
	"strings"
)

// Name names a column of a table as an operator does: by the name that its plaintext had when it was registered,
// or has today. Names are literal.
type Name struct{ Schema, Table, Column string }

// String is the name as a person reads it.
func (n Name) String() string { return n.Schema + "." + n.Table + "." + n.Column }

// Command is the command line of a verb for this column. A shell takes it as it stands, whatever is in a name.
func (n Name) Command(verb string) string {
	if Quoted(n.String()) != n.String() || strings.Count(n.String(), ".") != 2 {
		return strings.Join(append([]string{"cipherfleet", verb}, n.Flags()...), " ")
	}
	return "cipherfleet " + verb + " " + strings.TrimPrefix(n.String(), "public.")
}

// Backfill is the command line that encrypts this column.
func (n Name) Backfill() string {
	return strings.Join(append([]string{"cipherfleet", "backfill"}, n.Flags()...), " ")
}

// Flags are the words of a command line that name the column.
func (n Name) Flags() (words []string) {
	if n.Schema != "public" {
		words = append(words, "--schema", Quoted(n.Schema))
	}
	return append(words, "--table", Quoted(n.Table), "--column", Quoted(n.Column))
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
