package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const schemeListLong = `List every scheme a column ever had, with its state. With --count the whole table is read for how many cells each has;
that needs no key. Cells of a number that the registry does not know are listed as unknown.

Exit codes: as of cipherfleet scheme`

func newSchemeList(read settings) *cobra.Command {
	column, moved, count, asJSON := &oneColumn{}, false, false, false
	c := &cobra.Command{Use: "ls TABLE.COLUMN", Short: "List the schemes of a column", Long: schemeListLong,
		Example: "  cipherfleet scheme ls users.email\n  cipherfleet scheme ls users.email --count --json"}
	column.flags(c.Flags())
	c.Flags().BoolVar(&moved, "moved", false, "the column of that name whose cells have moved into another one and were dropped")
	c.Flags().BoolVar(&count, "count", false, "read the whole table for how many cells each has")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		name, err := column.name(c, args)
		if err != nil {
			return err
		}
		return withRegistry(c, read, false, "", func(_ *station, r *scheme.Registry) error {
			r.Gone = moved
			list, err := r.List(c.Context(), name, count)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(list)
			}
			return page.Schemes(c.OutOrStdout(), list)
		})
	}
	return c
}

const schemeShowLong = `Show one scheme of a column: what its cells are like, its state, and until when its keys are retained.

Exit codes: as of cipherfleet scheme`

func newSchemeShow(read settings) *cobra.Command {
	o, asJSON := &oneScheme{}, false
	c := &cobra.Command{Use: "show TABLE.COLUMN NUMBER", Short: "Show one scheme of a column", Long: schemeShowLong, Example: "  cipherfleet scheme show users.email 2"}
	o.column.flags(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.read(c, args); err != nil {
			return err
		}
		return withRegistry(c, read, false, "", func(_ *station, r *scheme.Registry) error {
			list, err := r.List(c.Context(), o.name, false)
			if err != nil {
				return err
			}
			for _, s := range list.Schemes {
				if s.Number == o.number && asJSON {
					return json.NewEncoder(c.OutOrStdout()).Encode(schemeDone{V: messages.Version, Table: list.Table, Column: list.Column, Scheme: s})
				}
				if s.Number == o.number {
					return page.Scheme(c.OutOrStdout(), s)
				}
			}
			return noScheme(o.name, list, o.number)
		})
	}
	return c
}

func noScheme(n standing.Name, list scheme.List, number uint16) error {
	var there []string
	for _, s := range list.Schemes {
		there = append(there, strconv.Itoa(int(s.Number)))
	}
	hint := "cipherfleet scheme new makes one"
	if len(there) > 0 {
		hint = "it has " + strings.Join(there, ", ")
	}
	return &app.Fail{Code: app.CodeRefused, Err: fmt.Errorf("column %q of %s has no scheme %d", n.Column, list.Table, number), Hint: hint}
}
