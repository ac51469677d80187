package preflight

import (
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// everyRow is the condition that every row meets.
const everyRow = "true"

// checkWhere settles which rows of a column need a cell: those that are asked for, else those of the last job.
func (p *look) checkWhere(ctx context.Context, i int, c Column, registered []lifecycle.Column) (string, error) {
	where, field := p.request.Columns[i].Where, columnsField(i)+".where"
	at := slices.IndexFunc(registered, func(r lifecycle.Column) bool { return r.SourceNum == c.Source.Attnum })
	if at >= 0 && where == "" {
		last, _, err := p.maker(ctx, registered[at].ID)
		if err != nil {
			return "", err
		}
		if last.Where != nil {
			where = last.Where.SQL
		}
	}
	strict := at >= 0 && standing.IsStrict(p.plan.Relation, registered[at].ID)
	switch {
	case where == "":
	case where == everyRow && !c.Sealed(): // as it is anyway
		return "", nil
	case where == everyRow:
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
	c.Where = &ddl.Condition{SQL: sql, Reads: reads}
	switch {
	case volatile:
		return mutable(field)
	case slices.Contains(c.Where.Names(), c.Target.Name):
		return standing.Refuse(field, "name other columns", "it reads %q, where the cells go", c.Target.Name)
	case sql == everyRow:
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
	steps := c.Steps(b.plan, c.Registered.ID)
	steps.Table = probeRow()
	for _, sql := range steps.Rehearse() {
		if _, err := b.tx.Exec(ctx, sql); err != nil {
			return b.refusal("where", err)
		}
	}
	return nil
}

// mutable refuses a condition that may be true of a row that nobody writes to.
func mutable(field string) error {
	return standing.Refuse(field, "make it of the row's columns alone, by IMMUTABLE functions: a row comes in or goes out by being written, and in no other way",
		"the condition is not immutable: it reads the clock, the session or a setting, or calls a function that may")
}
