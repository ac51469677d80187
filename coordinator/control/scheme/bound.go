package scheme

import (
	"cmp"
	"context"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// bind gives a definition the binding that is asked for.
func (c column) bind(d lifecycle.Definition, w Wanted) (lifecycle.Definition, error) {
	switch {
	case w.Binding == "" && w.Columns == nil:
		return d, nil
	case w.Binding != "" && w.Binding != cell.BoundToKey && w.Binding != cell.BoundToNothing && w.Binding != cell.BoundToColumns:
		return d, standing.Reject("binding", "pk binds a cell to its row", "binding was %q; accepted is pk, none or columns", w.Binding)
	case w.Binding != cell.BoundToColumns && len(w.Columns) > 0:
		return d, standing.Reject("columns", "say --binding columns, or leave --columns out", "only binding columns has columns, this is %s", cmp.Or(w.Binding, "none that is named"))
	case w.Binding != cell.BoundToColumns:
		d.RowBound, d.Columns = w.Binding == cell.BoundToKey, ""
		return d, nil
	case len(w.Columns) == 0 && d.Columns != "": // those of the present one
		return d, nil
	case len(w.Columns) == 0:
		return d, standing.Reject("columns", "name them, as in --columns tenant_id,slug", "binding columns needs columns to bind cells to")
	}
	label, err := preflight.BindTo("columns", c.Relation, c.others, w.Columns, c.SourceNum, c.TargetNum)
	d.RowBound, d.Columns = true, label
	return d, err
}

// planBound finds the columns that have to be looked after with the new scheme, and refuses what stands against it.
func (r *Registry) planBound(ctx context.Context, c column, p *NewPlan) error {
	p.column = c
	if p.Definition.Columns == "" {
		return nil
	}
	next := lifecycle.SchemeRow{Definition: p.Definition, State: lifecycle.SchemeReadable}
	err := standing.CheckLast(c.Relation)
	if err != nil {
		return err
	}
	if p.bound, err = c.BoundColumns(append(slices.Clone(c.Rows), next)); err != nil {
		return err
	}
	if c.Sealed.Attnum == 0 || c.IsBound(p.bound) {
		return nil
	}
	if !c.Relation.Privileges.Owner {
		return standing.Deny("table", "run this as the owner of the table", "role %q may not alter %s", c.Relation.Server.User, c.Relation.Table())
	}
	for _, sql := range c.DDL().Bind(p.bound).Do {
		p.Statements = append(p.Statements, Statement{sql, guarding})
	}
	return standing.CheckFree(ctx, r.DB, c.Relid, c.Relation.Table())
}

const guarding = "SHARE ROW EXCLUSIVE, for a moment; no row is read"

// guardBound has Postgres look after columns that cells are bound to.
func (r *Registry) guardBound(ctx context.Context, c column, names []string) error {
	err := c.Bind(ctx, r.DB, names, func(ctx context.Context, f func(pg.Tx) error) error {
		return standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
			if err := hold(ctx, tx, c); err != nil {
				return err
			}
			return f(tx)
		})
	})
	return standing.Settled(c.Standing, err)
}

// releaseBound lets go of columns that no scheme is bound to any more. Where that cannot be, nothing is lost: what looks
// after them looks after cells of schemes that can be read alone, and goes with the next change.
func (r *Registry) releaseBound(ctx context.Context, c column) {
	now, err := r.find(ctx, standing.Name{Schema: c.Relation.Schema, Table: c.Relation.Name, Column: c.Source})
	if err != nil {
		return
	}
	if names, err := now.BoundColumns(now.Rows); err == nil {
		_ = r.guardBound(ctx, now, names)
	}
}
