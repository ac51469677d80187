package preflight

import (
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Made says that Postgres makes the column's values, by an expression.
func (c Column) Made() bool { return c.made.Made() }

// InPlace says that they take the place of their source.
func (c Column) InPlace() bool { return c.Made() && c.Source.Name == c.Target.Name }

// Sealed says that the column's values are to be cells of ours.
func (c Column) Sealed() bool { return !c.Foreign() && !c.Made() }

// checkMade settles by which expression a column's values are made, if by one: the one that is asked for, else that of
// the last job.
func (p *look) checkMade(ctx context.Context, i int, registered []lifecycle.Column) (made messages.ColumnRequest, err error) {
	asked := p.request.Columns[i]
	source, found := p.plan.Relation.Column(asked.Source)
	at := slices.IndexFunc(registered, func(r lifecycle.Column) bool { return found && r.SourceNum == source.Attnum })
	var last work.Column
	own := false
	if at >= 0 {
		if last, own, err = p.maker(ctx, registered[at].ID); err != nil {
			return made, err
		}
	}
	field := columnsField(i) + ".transform"
	switch {
	case asked.Made() && (own || last.Foreign()):
		return made, standing.Clash(field, "take the column back with cipherfleet rollback first, and name another target", "the values of %q are encrypted already", asked.Source)
	case !asked.Made() && asked.Transform != "" && last.Made():
		return made, standing.Clash(field, "leave --transform out, or take the column back with cipherfleet rollback first",
			"the values of %q are made by an expression", asked.Source)
	case asked.Made():
		if made = asked; made.Transform == messages.TransformCopy {
			made.Expression = pg.Ident(asked.Source)
		}
	case last.Made():
		made = again(asked, last, registered[at])
		p.request.Columns[i] = made
	}
	return made, nil
}

// again asks for what the last job did.
func again(asked messages.ColumnRequest, last work.Column, r lifecycle.Column) messages.ColumnRequest {
	e := last.Expression
	asked.Transform, asked.Expression, asked.Type = messages.TransformExpression, e.SQL, e.Type
	asked.Done = messages.Done{Version: e.Version, Number: e.Number, When: e.When}
	if asked.Target == asked.Source+"_encrypted" { // nobody named it
		asked.Target = r.Target
	}
	return asked
}

// checkMadeTarget refuses an existing target that nothing can be written to.
func (p *look) checkMadeTarget(field string, c Column) error {
	switch target := c.Target; {
	case target.Generated != "":
		return standing.Refuse(field, "name another target", "target %q is generated: nothing can be written to it", target.Name)
	case target.Identity == "a":
		return standing.Refuse(field, "name another target", "target %q is GENERATED ALWAYS AS IDENTITY: nothing can be written to it", target.Name)
	case slices.Contains(p.plan.Key.Names(), target.Name):
		return standing.Refuse(field, "give another key with --key, one without this column", "target %q is part of the key that rows are found by", target.Name)
	}
	return nil
}

// checkDone looks at the column that says which rows are done.
func (p *look) checkDone(field string, c Column) error {
	done := c.made.Done
	if done.Version == "" {
		return nil
	}
	field += ".done.version"
	version, found := p.plan.Relation.Column(done.Version)
	most := map[string]int64{"int2": 1<<15 - 1, "int4": 1<<31 - 1, "int8": 1<<63 - 1, "numeric": 1<<63 - 1}[version.Base.Name]
	switch {
	case !found:
		return NoColumn(p.plan.Relation, field, done.Version)
	case version.Name == c.Source.Name || version.Name == c.Target.Name:
		return standing.Reject(field, "name a column that nothing but the version is kept in", "column %q is source or target itself", version.Name)
	case slices.Contains(p.plan.Key.Names(), version.Name) || slices.Contains(p.plan.Relation.PartitionKey, version.Name):
		return standing.Refuse(field, "name another column", "column %q finds or places rows: it must stay as it is", version.Name)
	case version.Generated != "" || version.Identity == "a":
		return standing.Refuse(field, "name another column", "column %q is generated: nothing can be written to it", version.Name)
	case version.Base.Schema != "pg_catalog" || most == 0:
		return standing.Refuse(field, "name a column of type smallint, integer, bigint or numeric", "column %q has type %s", version.Name, version.Type)
	case done.Number > most:
		return standing.Reject(columnsFieldOf(field, "done.number"), fmt.Sprintf("give a number up to %d", most), "%d does not fit into column %q of type %s", done.Number, version.Name, version.Type)
	case !version.MaySelect || !version.MayUpdate:
		return standing.Deny(field, "GRANT SELECT, UPDATE ON TABLE "+p.plan.Relation.Table().SQL()+" TO "+pg.Ident(p.plan.Relation.Server.User),
			"role %q may not read and write column %q of %s", p.plan.Relation.Server.User, version.Name, p.plan.Relation.Table())
	}
	return nil
}

// columnsFieldOf is another part of the same column's field.
func columnsFieldOf(field, part string) string {
	return field[:len(field)-len("done.version")] + part
}

// written are the columns that the job's UPDATE sets.
func (p *look) written() (names []string) {
	for i, c := range p.request.Columns {
		names = append(names, c.Target)
		if i < len(p.plan.Columns) && p.plan.Columns[i].made.Done.Version != "" {
			names = append(names, p.plan.Columns[i].made.Done.Version)
		}
	}
	return names
}

// seemsGuarded says that some capture of an expression stands; which one is known once the expression was read.
func (p *look) seemsGuarded(id uint32) bool {
	return slices.ContainsFunc(p.plan.Relation.Triggers, func(t pg.Trigger) bool {
		return standing.IsOurs(t) && slices.Contains(ddl.AnyCaptureTriggers(id), t.Name) && t.Table.OID == p.plan.Relation.OID
	})
}
