package page

import (
	"fmt"
	"io"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
)

// Introspection is a paragraph for each table, with the command that begins with what it proposes.
func Introspection(w io.Writer, i roadmap.Introspection) error {
	var b strings.Builder
	for _, t := range i.Tables {
		printProposals(&b, t)
	}
	if len(i.Tables) == 0 {
		fmt.Fprintf(&b, "of %d tables no column has a name that the heuristic knows; --table and --column name one yourself\n", i.Looked)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printProposals(b *strings.Builder, t roadmap.ProposedTable) {
	key := "no usable key"
	if len(t.Key) > 0 {
		key = "key " + strings.Join(t.Key, ", ")
	}
	fmt.Fprintf(b, "%s: about %d rows, %s, %s\n", t.Table, t.Rows, size(t.Bytes), key)
	list := func(indent, what string, names []string) {
		if len(names) > 0 {
			fmt.Fprintf(b, "%s%s: %s\n", indent, what, strings.Join(names, ", "))
		}
	}
	list("  ", "triggers", t.Triggers)
	list("  ", "publications", t.Publications)
	words := []string{"cipherfleet", "init"}
	if t.Schema != "public" {
		words = append(words, "--schema", standing.Quoted(t.Schema))
	}
	words = append(words, "--table", standing.Quoted(t.Name))
	possible := 0
	for _, c := range t.Columns {
		fmt.Fprintf(b, "  %s (%s)%s\n", c.Column, c.Type, proposalNote(c))
		list("    ", "indexes", c.Indexes)
		list("    ", "constraints", c.Checks)
		var dependents []string
		for _, d := range c.Dependents {
			dependents = append(dependents, d.String())
		}
		list("    ", "to mind at a cutover", dependents)
		for _, r := range c.Refused {
			fmt.Fprintf(b, "    cannot be done: %s\n      %s\n", r.Message, r.Hint)
		}
		if !c.Registered && len(c.Refused) == 0 {
			words, possible = append(words, "--column", standing.Quoted(c.Column)), possible+1
		}
	}
	if possible > 0 {
		fmt.Fprintf(b, "  $ %s\n", strings.Join(words, " "))
	}
}

func proposalNote(c roadmap.ProposedColumn) string {
	note := ""
	if c.Bytes > 0 {
		note += fmt.Sprintf(", about %.0f bytes each", c.Bytes)
	}
	if c.Why != "" {
		note += ", for the word " + c.Why
	}
	if c.Registered {
		note += ", registered already"
	}
	return note
}
