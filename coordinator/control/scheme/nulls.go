package scheme

import (
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// checkNulls refuses a scheme that seals NULL where something else would tell a NULL, or be taken for one.
func (c column) checkNulls(ctx context.Context, q pg.Querier, d lifecycle.Definition) error {
	if !d.SealsNulls() {
		return nil
	}
	table := c.Relation.Table()
	if err := c.CheckNullable(d.Nulls); err != nil {
		return err
	}
	if spec, err := standing.SpecOf(ctx, q, c.ID); err != nil {
		return err
	} else if spec.Foreign() || spec.Made() {
		return standing.Refuse("nulls", "leave NULL as NULL, with nulls keep", "the values of column %q of %s are not cells of ours", c.Source, table)
	}
	if err := c.CheckUnshredded(ctx, q, "nulls"); err != nil {
		return err
	}
	return c.CheckUnindexed(ctx, q, "nulls")
}

// checkPolicy refuses to write with a scheme of another null policy than the one before: rows need cells, or must lose
// them, and capture must know.
func (p Change) checkPolicy() error {
	c := p.column
	at := slices.IndexFunc(c.Rows, func(s lifecycle.SchemeRow) bool { return s.State == lifecycle.SchemeActive })
	to, err := c.numbered(p.Scheme.Number)
	if err != nil || at < 0 || c.Rows[at].Nulls == to.Nulls {
		return err
	}
	return standing.Refuse("scheme", fmt.Sprintf("`%s --to %d` activates it, and makes or takes away the cells of NULL", c.command("rotate"), to.Number),
		"scheme %d of column %q of %s has nulls %s, and scheme %d, which is written now, %s", to.Number, c.Source, c.Relation.Table(), to.Nulls, c.Rows[at].Number, c.Rows[at].Nulls)
}

// sealsNulls says that NULL is sealed under the scheme that is written now.
func (c column) sealsNulls() bool {
	return slices.ContainsFunc(c.Rows, func(s lifecycle.SchemeRow) bool { return s.State == lifecycle.SchemeActive && s.SealsNulls() })
}
