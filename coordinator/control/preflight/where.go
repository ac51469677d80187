package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// ReadCondition has a condition read as [Check] does for a column of this source and target, which need not be there yet.
// nil is every row.
func ReadCondition(ctx context.Context, db *pg.DB, r pg.Relation, source, target, where string) (*ddl.Condition, error) {
	switch {
	case where == messages.EveryRow:
		return nil, nil
	case !messages.IsExpression(where):
		return nil, standing.Reject("where", "mend the manifest", "where %s", messages.NoCondition)
	}
	c := Column{where: where}
	c.Source, _ = r.Column(source)
	if c.Target, _ = r.Column(target); c.Target.Attnum == 0 {
		c.Target.Name, c.Add = target, true
	}
	p := &look{plan: Plan{Relation: r, Columns: []Column{c}}}
	err := p.readExpressions(ctx, db)
	return p.plan.Columns[0].Where, err
}

// checkWhere settles which rows of a column need a cell: those that are asked for, else those of the last job; "" is all.
func (p *look) checkWhere(ctx context.Context, i int, c *Column, registered []lifecycle.Column) (where string, err error) {
	where, field := p.request.Columns[i].Where, columnsField(i)+".where"
	at := slices.IndexFunc(registered, func(r lifecycle.Column) bool { return r.SourceNum == c.Source.Attnum })
	if at >= 0 {
		last, _, err := p.maker(ctx, registered[at].ID)
		if err != nil {
			return "", err
		}
		c.Was = last.Where
		if last.Where != nil && where == "" {
			if !last.Where.Stands(p.plan.Relation) {
				return "", standing.Refuse(field, "write it anew, with the names that its columns have now",
					"the condition of the last job reads %s, of which one is gone, or has another name", strings.Join(last.Where.Names(), ", "))
			}
			where = last.Where.SQL
		}
	}
	if where == messages.EveryRow {
		where = ""
	}
	strict := at >= 0 && standing.IsStrict(p.plan.Relation, registered[at].ID)
	switch {
	case where == "":
	case !c.Sealed() || c.Origin != nil:
		return "", standing.Refuse(field, "leave the condition out, or put those rows into a table or partition of their own",
			"the values of %q are not encrypted from plaintext by cipherfleet: every row needs one", c.Source.Name)
	case p.request.Strict || strict:
		return "", standing.Refuse(field, "do without one of the two", "writes that miss the cell of %q fail (--strict), and rows outside the condition need none", c.Source.Name)
	}
	return where, nil
}

// readWhere has the condition read, and completes the column with it.
func (b *probe) readWhere(ctx context.Context, c *Column) error {
	sql, reads, volatile, err := b.read(ctx, "where", c.where, "IS TRUE")
	if err != nil {
		return err
	}
	field := b.field + ".where"
	c.Where = &ddl.Condition{SQL: sql, Reads: reads, Text: c.where}
	if c.Where.Same(c.Was) && c.where == c.Was.SQL { // nobody wrote it anew
		c.Where.Text = c.Was.Text
	}
	switch {
	case volatile:
		return mutable(field)
	case slices.Contains(c.Where.Names(), c.Target.Name):
		return standing.Refuse(field, "name other columns", "it reads %q, where the cells go", c.Target.Name)
	case sql == messages.EveryRow:
		c.Where = nil
		return nil
	}
	if _, err := b.tx.Exec(ctx, "CREATE INDEX ON "+probeRow().SQL()+" ((1)) WHERE ("+sql+")"); err != nil {
		if pg.Code(err) == "42P17" {
			return mutable(field)
		}
		return b.refusal("where", err)
	}
	if c.Add {
		add := "ALTER TABLE " + probeRow().SQL() + " ADD COLUMN " + pg.Ident(c.Target.Name) + " pg_catalog.bytea"
		if _, err := b.tx.Exec(ctx, add); err != nil {
			return fmt.Errorf("add a target to the shape of %s: %w", b.plan.Relation.Table(), err)
		}
	}
	return b.rehearse(ctx, "where", c)
}

// mutable refuses a condition that may be true of a row that nobody writes to.
func mutable(field string) error {
	return standing.Refuse(field, "make it of the row's columns alone, by IMMUTABLE functions: a row comes in or goes out by being written, and in no other way",
		"the condition is not immutable: it reads the clock, the session or a setting, or calls a function that may")
}
