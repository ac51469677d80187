package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// introspect proposes columns and writes nothing.
func (o *initOptions) introspect(c *cobra.Command, read settings) error {
	for _, flag := range []string{"target", "key", "user-triggers", "manifest", "force"} {
		if c.Flags().Changed(flag) {
			return usage(errors.New("--introspect writes no manifest: leave --"+flag+" out"), c)
		}
	}
	request := roadmap.IntrospectRequest{Columns: o.scope.columns}
	if o.scope.table != "" {
		schema, table := o.scope.names(c)
		request.Table = &pg.Table{Schema: schema, Name: table}
	} else if len(o.scope.columns) > 0 || c.Flags().Changed("schema") {
		return usage(errors.New("--table is missing"), c)
	}
	config, err := read()
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	found, err := roadmap.Introspect(c.Context(), s.db, request)
	if err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(found)
	}
	return printIntrospection(c.OutOrStdout(), found)
}

func printIntrospection(w io.Writer, i roadmap.Introspection) error {
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
		words = append(words, "--schema", shellWord(t.Schema))
	}
	words = append(words, "--table", shellWord(t.Name))
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
			words, possible = append(words, "--column", shellWord(c.Column)), possible+1
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
