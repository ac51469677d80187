package preflight

import (
	"context"
	"fmt"
)

// mostShort is the width of values, in bytes on average, up to which hardly one is stored outside its row: that begins
// with rows of two kilobytes.
const mostShort = 256

const isShortSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum = $2 AND attlen > 0)
 OR EXISTS (SELECT FROM pg_catalog.pg_stats WHERE schemaname = $3 AND tablename = $4 AND attname = $5 AND avg_width <= $6 AND null_frac < 1)`

// measure finds out which columns' values may be so long that rows hold them elsewhere: their type does not bound them,
// and statistics do not say that they are short. It refuses nothing, so only a plan that is carried out needs it.
func (p *look) measure(ctx context.Context) error {
	table := p.plan.Relation.Table()
	for i, c := range p.plan.Columns {
		short := false
		if err := p.q.QueryRow(ctx, isShortSQL, p.plan.Relation.OID, c.Source.Attnum, table.Schema, table.Name, c.Source.Name, mostShort).Scan(&short); err != nil {
			return fmt.Errorf("look at the width of %s: %w", table, err)
		}
		p.plan.Columns[i].long = !short
	}
	return nil
}
