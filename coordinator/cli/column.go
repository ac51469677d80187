package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
)

// oneColumn is the column that a command is about: users.email or crm.users.email as its argument, or by flags where a
// name has a dot in it.
type oneColumn struct{ schema, table, column string }

func (o *oneColumn) flags(f *pflag.FlagSet) {
	f.StringVar(&o.schema, "schema", "public", "the table's schema")
	f.StringVar(&o.table, "table", "", "the table, where a name has a dot in it")
	f.StringVar(&o.column, "column", "", "the column, where a name has a dot in it")
}

// name reads argument and flags. Names are literal.
func (o *oneColumn) name(c *cobra.Command, args []string) (standing.Name, error) {
	n := standing.Name{Schema: o.schema, Table: o.table, Column: o.column}
	switch {
	case len(args) == 0 && o.named():
		return n, required(c, "table", "column")
	case len(args) == 0:
		return n, usage(errors.New("the column is missing: name it, as in users.email, or with --table and --column"), c)
	}
	parts := strings.Split(args[0], ".")
	switch {
	case len(args) > 1 || o.named():
		return n, usage(errors.New("name one column, either as an argument or with --table and --column"), c)
	case len(parts) == 2:
		n.Table, n.Column = parts[0], parts[1]
	case len(parts) == 3 && !c.Flags().Changed("schema"):
		n.Schema, n.Table, n.Column = parts[0], parts[1], parts[2]
	default:
		return n, usage(errors.New("a column is named table.column or schema.table.column; where a name has a dot in it, use --schema, --table and --column"), c)
	}
	for _, part := range parts {
		if part == "" {
			return n, usage(errors.New("a name is empty"), c)
		}
	}
	return n, nil
}

// named says whether flags name the column, or a part of it.
func (o *oneColumn) named() bool { return o.table != "" || o.column != "" }
