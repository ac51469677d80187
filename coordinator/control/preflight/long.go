package preflight

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// mostShort is the width of values, in bytes on average, up to which hardly one is stored outside its row: that begins
// with rows of two kilobytes.
const mostShort = 256

const isShortSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum = $2 AND attlen > 0)
 OR EXISTS (SELECT FROM pg_catalog.pg_stats WHERE schemaname = $3 AND tablename = $4 AND attname = $5 AND avg_width <= $6 AND null_frac < 1)`

// isLong says that values of a column may be so long that rows hold them elsewhere: its type does not bound them, and
// statistics do not say that they are short.
func (p *look) isLong(ctx context.Context, source pg.Column) (bool, error) {
	short, table := false, p.plan.Relation.Table()
	if err := p.q.QueryRow(ctx, isShortSQL, p.plan.Relation.OID, source.Attnum, table.Schema, table.Name, source.Name, mostShort).Scan(&short); err != nil {
		return false, fmt.Errorf("look at the width of %s: %w", table, err)
	}
	return !short, nil
}
