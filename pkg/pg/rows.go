package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Collect reads a query's rows, each made into a value by scan.
func Collect[T any](ctx context.Context, q Querier, sql string, scan pgx.RowToFunc[T], args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scan)
	return all, Safe(err)
}

// Values reads the first value of every row.
func Values[T any](ctx context.Context, q Querier, sql string, args ...any) ([]T, error) {
	return Collect(ctx, q, sql, pgx.RowTo[T], args...)
}
