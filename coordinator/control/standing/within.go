package standing

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Within is the condition of a column's newest job as far as it can be asked: of a column that was taken back only while
// the table has the columns that it reads, under the same names and with the same types. nil: every row needs a cell.
func Within(ctx context.Context, q pg.Querier, r pg.Relation, column uint32, phase lifecycle.Phase, where *ddl.Condition) (*ddl.Condition, error) {
	if where == nil || phase.Rung() >= lifecycle.PhaseDualWriting.Rung() {
		return where, nil
	}
	if !where.Stands(r) {
		return nil, nil
	}
	types := []int64{}
	for _, name := range where.Names() {
		c, _ := r.Column(name)
		types = append(types, int64(c.TypeOID))
	}
	asked := false
	if err := q.QueryRow(ctx, ddl.Column{ID: column}.Asked(), types).Scan(&asked); err != nil {
		return nil, fmt.Errorf("look for the condition of %s: %w", r.Table(), err)
	}
	if !asked {
		return nil, nil
	}
	return where, nil
}
