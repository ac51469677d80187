package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// scope is the table and the columns that a command is about, as flags name them.
type scope struct {
	schema, table    string
	columns, targets []string
}

func (s *scope) flags(f *pflag.FlagSet) {
	f.StringVar(&s.schema, "schema", "public", "the table's schema")
	f.StringVar(&s.table, "table", "", "the table; without --schema also as schema.table")
	f.StringArrayVar(&s.columns, "column", nil, "a source column; may be repeated, all go in one pass")
}

// targetFlags is for commands that write, or will write, cells.
func (s *scope) targetFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&s.targets, "target", nil, "where the cells go, in the order of the columns (default: the source's name with _encrypted behind it)")
}

// names are schema and table. A table whose own name has a dot in it needs --schema.
func (s *scope) names(c *cobra.Command) (schema, table string) {
	if schema, table, found := strings.Cut(s.table, "."); found && !c.Flags().Changed("schema") {
		return schema, table
	}
	return s.schema, s.table
}

// fill puts the scope into a request.
func (s *scope) fill(r *messages.StartRequest, c *cobra.Command) error {
	if len(s.targets) > len(s.columns) {
		return usage(errors.New("there are more targets than columns"), c)
	}
	r.Schema, r.Table = s.names(c)
	for i, source := range s.columns {
		column := messages.ColumnRequest{Source: source, Target: source + "_encrypted"}
		if i < len(s.targets) {
			column.Target = s.targets[i]
		}
		r.Columns = append(r.Columns, column)
	}
	return nil
}

// invalid is a request that flags have made, and that makes no sense.
func invalid(err error, c *cobra.Command) error {
	var problem *messages.Problem
	switch {
	case err == nil:
		return nil
	case errors.As(err, &problem) && strings.HasSuffix(problem.Field, ".target") && c.Flags().Lookup("target") != nil:
		return &app.Fail{Code: app.CodeUsage, Err: err, Hint: "name another one with --target, of 63 bytes at most; see `" + c.CommandPath() + " --help`"}
	}
	return usage(err, c)
}
