package preflight

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Suites are the suites of cells, as manifests and flags spell them.
func Suites() map[string]cell.Suite {
	return map[string]cell.Suite{"xaes-256-gcm": cell.SuiteXAES256GCM, "aes-256-siv": cell.SuiteAES256SIV}
}

// First is what the first scheme of a column is to be: what was asked for; where cells of another one move into it, what
// those are sealed under, with a key of its own; else what is right for its type.
func (c Column) First(id uint32) lifecycle.Definition {
	if c.Origin.Own() {
		d := c.moved.scheme
		d.Column, d.Number, d.KeyID = id, 1, 0
		return d
	}
	d := lifecycle.Definition{Scheme: cell.Scheme{Column: id, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: c.Codec, RowBound: true, Padding: c.Codec.DefaultPadding()}}
	s := c.first
	if s == nil {
		return d
	}
	d.Number, d.Tenant, d.Retain = uint16(max(s.Number, 1)), s.Tenant, s.Retained()
	d.Suite = cmp.Or(Suites()[s.Suite], d.Suite)
	d.RowBound, d.Columns = s.Binding != "none" && !d.Suite.Deterministic(), c.bound
	if s.Padding != nil {
		d.Padding = *s.Padding
	}
	d.Nulls = s.Nulls == cell.SealNulls.String()
	return d
}

// checkFirst refuses a first scheme that the column cannot have. Where it has one already, nothing is asked any more.
func (p *look) checkFirst(ctx context.Context, i int, c *Column, registered []lifecycle.Column) (err error) {
	if !c.Sealed() || c.Origin.Own() {
		return nil
	}
	own := false
	if c.Registered.ID != 0 {
		if _, own, err = p.maker(ctx, c.Registered.ID); err != nil {
			return err
		}
	}
	if c.Fresh = !own; own || p.request.Columns[i].First == nil {
		return nil
	}
	c.first = p.request.Columns[i].First
	if c.first.Binding == cell.BoundToColumns {
		if c.bound, err = BindTo(columnsField(i)+".first_scheme.columns", p.plan.Relation, registered, c.first.Columns, c.Source.Attnum, c.Target.Attnum); err != nil {
			return err
		}
	}
	first := c.First(1)
	if err := CheckDefinition(columnsField(i)+".first_scheme.", p.plan.Relation, first, c.Source.Attnum, c.Target.Attnum); err != nil {
		return err
	}
	return standing.CheckNullable(first.Nulls, p.plan.Relation.Table(), c.Source)
}

// CheckDefinition refuses what no scheme of a table's column can be. In is what its fields are called by, in front of their
// names; "": those of a scheme alone.
func CheckDefinition(in string, r pg.Relation, d lifecycle.Definition, source, target int16) error {
	trial := d.Scheme
	trial.Number, trial.KeyID = max(trial.Number, 1), 1
	if err := trial.Validate(); err != nil {
		_, why, _ := strings.Cut(err.Error(), ": ")
		return standing.Reject(cmp.Or(strings.TrimSuffix(in, "."), "scheme"), "docs/manifest.md says what a scheme can be", "such a scheme cannot be: %s", why)
	}
	if d.Tenant == "" {
		return nil
	}
	if d.SealsNulls() {
		return standing.Refuse(in+"nulls", "leave NULL as NULL, with nulls keep, or give all rows one key, without a tenant",
			"rows of a tenant that is shredded could be given no cell, so with a key for each %s NULL cannot be sealed", d.Tenant)
	}
	tenant, found := r.Column(d.Tenant)
	switch {
	case !found:
		return standing.Lack(in+"tenant", "name the column whose value says whose row it is", "%s has no column %q", r.Table(), d.Tenant)
	case tenant.Attnum == source || tenant.Attnum == target:
		return standing.Refuse(in+"tenant", "name another column", "column %q is the one that is encrypted: it cannot choose its own key", d.Tenant)
	}
	return nil
}

// Warnings are what whoever reviews a scheme of a column should know.
func Warnings(r pg.Relation, source int16, d lifecycle.Definition) (all []string) {
	if d.Suite.Deterministic() {
		all = append(all, "aes-256-siv: equal values make equal cells, so whoever sees the cells sees which rows agree and how often each value occurs; "+
			"nothing binds a cell to its row")
	}
	if !d.RowBound && !d.Suite.Deterministic() {
		all = append(all, "binding none: a cell that is copied to another row of the column opens there")
	}
	if d.Columns != "" {
		all = append(all, "binding columns: a cell that is copied to another row with the same values of those columns opens there")
		all = append(all, movers(r)...)
	}
	if n := d.Padding - 2; d.SealsNulls() && d.Padding > 0 {
		all = append(all, fmt.Sprintf("nulls seal: the cell of a NULL is as long as that of a value of up to %d bytes; where most values are longer, a longer padding hides more", n))
	}
	if d.Tenant != "" && r.ColumnAt(source).Attnum != 0 {
		if tenant, _ := r.Column(d.Tenant); !tenant.NotNull {
			all = append(all, fmt.Sprintf("column %q may be NULL: such rows share one key, which no shred deletes", d.Tenant))
		}
	}
	return all
}

// movers warns of triggers that may change what a cell was sealed for, before its row is written.
func movers(r pg.Relation) (all []string) {
	for _, t := range r.Triggers {
		if standing.Alters(t) {
			all = append(all, fmt.Sprintf("trigger %q on %s sees a row before it is written: if it changes a column that cells are bound to, a cell that a client sealed for what it gave does not open", t.Name, t.Table.Table()))
		}
	}
	return all
}

// SuiteName is how manifests spell a suite.
func SuiteName(s cell.Suite) string {
	for _, name := range slices.Sorted(maps.Keys(Suites())) {
		if Suites()[name] == s {
			return name
		}
	}
	return s.String()
}
