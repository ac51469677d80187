package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

const schemeNewLong = `Make the next scheme of a column, with a key of its own. Its key is drawn, wrapped by the key-encryption key, committed,
read back and proven; then the scheme can be read. Nothing is sealed with it before it is activated, or rotated to.

What it is like is said by the flags; where they are silent, by the manifest, if it lists schemes of this column that
are not there yet: the lowest of them is made, or the one of --number. Else it is like the scheme that is written with
now, and only its key is another.

With --tenant NAME each value of that column has a key of its own, made when the first row of it is sealed; see
cipherfleet scheme shred. With --binding columns a cell opens in every row that has the same values of --columns as its
own, and in no other; they must be NOT NULL, and Postgres looks after them from then on. aes-256-siv makes equal cells
of equal values: who sees the cells sees which rows agree.

With --nulls seal NULL is sealed like a value: every row needs a cell, and rotate gives those theirs that have none.

Exit codes: as of cipherfleet scheme`

const schemeNewExample = `  cipherfleet scheme new users.email --dry-run
  cipherfleet scheme new users.email --padding 64
  cipherfleet scheme new users.email --nulls seal
  cipherfleet scheme new users.email --suite aes-256-siv --json
  cipherfleet scheme new orders.note --tenant customer_id --retain 2160h
  cipherfleet scheme new orders.note --binding columns --columns tenant_id,slug`

type schemeNewOptions struct {
	column         oneColumn
	wanted         scheme.Wanted
	padding        int
	tenant         string
	retain         time.Duration
	reason         string
	dryRun, asJSON bool
}

func newSchemeNew(read settings) *cobra.Command {
	o := &schemeNewOptions{}
	c := &cobra.Command{Use: "new TABLE.COLUMN", Short: "Make the next scheme of a column, with a key of its own", Long: schemeNewLong, Example: schemeNewExample}
	f := c.Flags()
	o.column.flags(f)
	f.IntVar(&o.wanted.Number, "number", 0, "its number (default: the next one)")
	f.StringVar(&o.wanted.Suite, "suite", "", "xaes-256-gcm or aes-256-siv")
	f.StringVar(&o.wanted.Binding, "binding", "", "pk: cells open in their row alone; columns: where --columns are equal; none: anywhere")
	f.StringSliceVar(&o.wanted.Columns, "columns", nil, "with --binding columns: columns of the table that cells are bound to, in this order")
	f.IntVar(&o.padding, "padding", 0, "0, 16, 32 or 64 bytes: lengths are hidden up to so much")
	f.StringVar(&o.wanted.Nulls, "nulls", "", "keep: NULL stays NULL; seal: NULL has a cell too, and nobody sees which rows have no value")
	f.StringVar(&o.tenant, "tenant", "", "column of the table whose value chooses the key; empty: one key for all rows")
	f.DurationVar(&o.retain, "retain", 0, "how long its keys are kept at least after it is retired (default 720h)")
	f.StringVar(&o.reason, "reason", "", "why, for the log")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, say what would be made, and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print the scheme as JSON")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args, read) }
	return c
}

func (o *schemeNewOptions) run(c *cobra.Command, args []string, read settings) error {
	name, err := o.column.name(c, args)
	if err != nil {
		return err
	}
	if c.Flags().Changed("padding") {
		o.wanted.Padding = &o.padding
	}
	if c.Flags().Changed("tenant") {
		o.wanted.Tenant = &o.tenant
	}
	if c.Flags().Changed("retain") {
		o.wanted.Retain = &o.retain
	}
	return withRegistry(c, read, true, o.reason, func(s *station, r *scheme.Registry) error {
		listed, err := listedSchemes(s.config.Manifest, name.Schema, name.Table, name.Column)
		if err != nil {
			return err
		}
		if len(listed) > 0 {
			there, err := r.List(c.Context(), name, false)
			if err != nil {
				return err
			}
			if err := o.fromManifest(listed, there); err != nil {
				return err
			}
		}
		plan, err := r.PlanNew(c.Context(), name, o.wanted)
		if err != nil {
			return err
		}
		for _, warning := range plan.Warnings {
			fmt.Fprintln(c.ErrOrStderr(), "warning: "+warning)
		}
		if o.dryRun {
			for _, statement := range plan.Statements {
				fmt.Fprintf(c.ErrOrStderr(), "-- lock: %s\n%s;\n", statement.Lock, statement.SQL)
			}
			return o.announce(c, plan)
		}
		made, err := r.New(c.Context(), plan)
		if err != nil {
			return err
		}
		return o.print(c, plan, made)
	})
}

// listedSchemes are the schemes that the manifest lists for a column; none without a manifest.
func listedSchemes(path, schema, table, column string) (map[int]manifest.Scheme, error) {
	file, err := loadManifest(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, t := range file.Tables {
		for _, c := range t.Columns {
			if t.Schema == schema && t.Name == table && c.Source == column {
				return c.Schemes, nil
			}
		}
	}
	return nil, nil
}

// fromManifest fills in what flags leave out, if the manifest lists a scheme that is not there yet.
func (o *schemeNewOptions) fromManifest(listed map[int]manifest.Scheme, there scheme.List) error {
	number := o.wanted.Number
	if number == 0 {
		highest := 0
		for _, s := range there.Schemes {
			highest = int(s.Number)
		}
		at := slices.IndexFunc(slices.Sorted(maps.Keys(listed)), func(n int) bool { return n > highest })
		if at < 0 {
			return nil
		}
		number = slices.Sorted(maps.Keys(listed))[at]
	}
	s, ok := listed[number]
	if !ok {
		return nil
	}
	w := &o.wanted
	if w.Binding == "" && w.Columns == nil {
		w.Columns = s.Columns
	}
	w.Number, w.Suite, w.Binding, w.Nulls = number, cmp.Or(w.Suite, s.Suite), cmp.Or(w.Binding, s.Binding), cmp.Or(w.Nulls, s.Nulls)
	w.Padding, w.Tenant, w.Retain = cmp.Or(w.Padding, &s.Padding), cmp.Or(w.Tenant, &s.Tenant), cmp.Or(w.Retain, &s.Retain)
	return nil
}

// schemeDone is what a command on a scheme did, or would do.
type schemeDone struct {
	V      int           `json:"v"`
	Table  string        `json:"table"`
	Column string        `json:"column"`
	DryRun bool          `json:"dry_run"`
	Change bool          `json:"changed"` // or would be
	Scheme scheme.Scheme `json:"scheme"`
}

func (o *schemeNewOptions) announce(c *cobra.Command, p scheme.NewPlan) error {
	would := p.Would()
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(schemeDone{messages.Version, p.Table, p.Column, true, !p.Already, would})
	}
	if p.Already {
		_, err := fmt.Fprintf(c.OutOrStdout(), "scheme %d of %s.%s is there already\n", would.Number, p.Table, p.Column)
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "would make scheme %d of %s.%s: %s\n", would.Number, p.Table, p.Column, page.SchemeLine(would))
	return err
}

func (o *schemeNewOptions) print(c *cobra.Command, p scheme.NewPlan, made scheme.Scheme) error {
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(schemeDone{messages.Version, p.Table, p.Column, false, !p.Already, made})
	}
	if p.Already {
		_, err := fmt.Fprintf(c.OutOrStdout(), "scheme %d of %s.%s is there already, its key proven: it is %s\n", made.Number, p.Table, p.Column, made.State)
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "made scheme %d of %s.%s: %s; it can be read, and is not written with yet\n", made.Number, p.Table, p.Column, page.SchemeLine(made))
	return err
}
