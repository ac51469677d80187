package lifecycle

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Registered is every registered column, in the order of ids.
func Registered(ctx context.Context, q pg.Querier) ([]Column, error) {
	columns, err := collect(ctx, q, scanColumn, `SELECT `+columnFields+` FROM cipherfleet.columns c WHERE c.retired_at IS NULL ORDER BY c.id`)
	return columns, wrap("read registered columns", err)
}

// Standing is what [Latest] says of one column.
type Standing struct {
	State State
	Err   error // an [ErrImpossible] or nil
}

// LatestOf is [Latest] of many columns in one statement, by their ids.
func LatestOf(ctx context.Context, q pg.Querier, columns []Column) (map[uint32]Standing, error) {
	ids, tables, names := make([]int64, len(columns)), make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		ids[i], tables[i], names[i] = int64(c.ID), c.Table.String(), c.Source
	}
	each := strings.NewReplacer("$1", "wanted.table_name", "$2", "wanted.column_name").Replace(latestSQL)
	rows, err := q.Query(ctx, `SELECT wanted.id, latest.* FROM unnest($1::bigint[], $2::text[], $3::text[]) AS wanted (id, table_name, column_name)
 CROSS JOIN LATERAL (`+each+`) AS latest`, ids, tables, names)
	if err != nil {
		return nil, fmt.Errorf("read the latest events: %w", err)
	}
	events := make(map[uint32][]Event, len(columns))
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (id uint32, err error) {
		e, err := scanEvent(eventOf{row, &id})
		events[id] = append(events[id], e)
		return id, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the latest events: %w", pg.Safe(err))
	}
	standings := make(map[uint32]Standing, len(columns))
	for _, c := range columns {
		state, err := foldLatest(events[c.ID])
		standings[c.ID] = Standing{state, err}
	}
	return standings, nil
}

// eventOf is an event behind the id of its column.
type eventOf struct {
	pgx.CollectableRow
	column *uint32
}

// Scan takes the id first.
func (e eventOf) Scan(into ...any) error {
	return e.CollectableRow.Scan(append([]any{e.column}, into...)...)
}
