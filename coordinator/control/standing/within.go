package standing

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Conditions are those that can be asked: by the ids of columns, the types of what each is asked with. After a rollback
// that kept the target a column may have got another type since, and nobody keeps a user from taking a function away.
type Conditions map[uint32][]uint32

// ReadConditions reads them all, with one statement.
func ReadConditions(ctx context.Context, q pg.Querier) (Conditions, error) {
	rows, err := q.Query(ctx, ddl.Conditions())
	if err != nil {
		return nil, fmt.Errorf("look for conditions: %w", err)
	}
	list := Conditions{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (id uint32, err error) {
		var types []uint32
		err = row.Scan(&id, &types)
		list[id] = types
		return id, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for conditions: %w", pg.Safe(err))
	}
	return list, nil
}

// Within is the condition of a column's newest job, under today's names, as far as it can be asked: while the table has
// the columns that it reads, with the types that they had. nil: every row needs a cell.
func (l Conditions) Within(r pg.Relation, column uint32, where *ddl.Condition) *ddl.Condition {
	asked, has := l[column]
	if where == nil || !has {
		return nil
	}
	today, types := *where, []uint32{}
	today.Reads = slices.Clone(where.Reads)
	for i, in := range where.Reads {
		c := r.ColumnAt(in.Attnum) // one that is gone has no type
		today.Reads[i].Name, types = c.Name, append(types, c.TypeOID)
	}
	if !slices.Equal(asked, types) {
		return nil
	}
	return &today
}
