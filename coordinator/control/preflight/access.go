package preflight

import (
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// checkPrivileges refuses to begin what would fail half-way for want of a right.
func (p *look) checkPrivileges(context.Context) error {
	r := p.plan.Relation
	user, table := r.Server.User, r.Table()
	to := " TO " + pg.Ident(user)
	switch {
	case !p.plan.Installed && !p.mayInstall:
		return standing.Deny("", "let somebody who may create a schema run cipherfleet install, or take its text from cipherfleet install --print",
			"schema cipherfleet is not installed in database %q, and role %q may not create it", r.Server.Database, user)
	case !r.Privileges.Schema:
		return standing.Deny("table", "GRANT USAGE ON SCHEMA "+pg.Ident(r.Schema)+to, "role %q may not use schema %q", user, r.Schema)
	case r.RowSecurity.Applies:
		return standing.Refuse("table", "use a role that owns the table or has BYPASSRLS", "row security hides rows of %s from role %q: they would be left as they are", table, user)
	case (!p.allGuarded() || p.request.Strict && !p.allStrict()) && !r.Privileges.Owner:
		return standing.Deny("table", "run this once as the owner of the table: it adds a column, a check and triggers",
			"role %q may not alter %s", user, table)
	case !r.Privileges.Version:
		return standing.Deny("table", "GRANT SELECT ON TABLE "+table.SQL()+to, "role %q may not read the row versions (xmin) of %s", user, table)
	}
	for _, k := range p.plan.Key.Columns {
		if column, _ := r.Column(k.Name); !column.MaySelect {
			return standing.Deny("key", "GRANT SELECT ON TABLE "+table.SQL()+to, "role %q may not read key column %q of %s", user, k.Name, table)
		}
	}
	for i, c := range p.plan.Columns {
		field := fmt.Sprintf("columns[%d]", i)
		switch {
		case !c.Source.MaySelect:
			return standing.Deny(field+".source", "GRANT SELECT ON TABLE "+table.SQL()+to, "role %q may not read column %q of %s", user, c.Source.Name, table)
		case !c.Add && !(c.Target.MaySelect && c.Target.MayUpdate):
			return standing.Deny(field+".target", "GRANT SELECT, UPDATE ON TABLE "+table.SQL()+to, "role %q may not read and write column %q of %s", user, c.Target.Name, table)
		}
	}
	return nil
}

func (p *look) allGuarded() bool {
	return !slices.ContainsFunc(p.plan.Columns, func(c Column) bool { return !c.Guarded })
}

func (p *look) allStrict() bool {
	return !slices.ContainsFunc(p.plan.Columns, func(c Column) bool { return !standing.IsStrict(p.plan.Relation, c.Registered.ID) })
}

// What a sample may read: pages of all leaves together, and leaves. Beyond it, only validating the check tells.
const (
	samplePages  = 2000
	sampleLeaves = 16
)

// checkTargets looks for values in the targets that are no cells of theirs. A guarded target was proven.
func (p *look) checkTargets(ctx context.Context) error {
	leaves := slices.Clone(p.plan.Relation.Leaves)
	slices.SortStableFunc(leaves, func(a, b pg.Leaf) int { return int(min(1, max(-1, b.Pages-a.Pages))) })
	leaves = leaves[:min(len(leaves), sampleLeaves)]
	for i, c := range p.plan.Columns {
		if c.Add || c.Guarded || !c.Sealed() { // what an encrypter made before may stay; validating the check tells
			continue
		}
		for _, leaf := range leaves {
			foreign, err := p.holdsForeign(ctx, leaf, c, samplePages/len(leaves))
			if err != nil {
				return fmt.Errorf("preflight: look into target %s of %s: %w", c.Target.Name, leaf.Table(), err)
			}
			if foreign {
				return standing.Refuse(fmt.Sprintf("columns[%d].target", i), "name another target, or empty this one: UPDATE ... SET "+pg.Ident(c.Target.Name)+" = NULL",
					"target %q of %s holds values that are no cells of this column", c.Target.Name, leaf.Table())
			}
		}
	}
	return nil
}

// A column that was never registered has no cells: any value is foreign to it. Only the beginning of a value is
// compared, and nothing of it leaves the server.
const foreignSQL = `SELECT EXISTS (SELECT FROM ONLY %s TABLESAMPLE SYSTEM ($1::float4) WHERE %s)`

func (p *look) holdsForeign(ctx context.Context, leaf pg.Leaf, c Column, pages int) (foreign bool, err error) {
	percent := min(100, 100*float64(pages)/float64(max(1, leaf.Pages)))
	sql := fmt.Sprintf(foreignSQL, leaf.Table().SQL(), ddl.Foreign(pg.Ident(c.Target.Name), c.form, c.Registered.ID))
	err = p.q.QueryRow(ctx, sql, percent).Scan(&foreign)
	return foreign, err
}
