package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Home pins, for the present transaction, names without a schema to mean Postgres's own: functions, operators, types
// and catalogs. It is one statement without parameters. It belongs at the beginning of transactions that touch only
// catalogs and our own tables: where a user's triggers run, their search path is theirs.
const Home = `SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)`

const readOnly = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"

// atHome runs f, which only reads, with [Home]: in a transaction of its own, or in the one that q is, whose search path
// is put back.
func atHome(ctx context.Context, q Querier, f func(Querier) error) error {
	tx, open := q.(Tx)
	if !open {
		begun, err := beginReading(ctx, q)
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		defer begun.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it only reads
		tx = begun
	}
	before := ""
	if err := tx.QueryRow(ctx, `SELECT pg_catalog.current_setting('search_path')`).Scan(&before); err != nil {
		return fmt.Errorf("read the search path: %w", err)
	}
	if _, err := tx.Exec(ctx, Home); err != nil {
		return fmt.Errorf("set the search path: %w", err)
	}
	if err := f(tx); err != nil || !open {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('search_path', $1, true)`, before); err != nil {
		return fmt.Errorf("put the search path back: %w", err)
	}
	return nil
}

// beginReading works on a standby, too.
func beginReading(ctx context.Context, q Querier) (Tx, error) {
	on, ok := q.(interface {
		beginReading(context.Context) (pgx.Tx, error)
	})
	if !ok {
		return Tx{}, fmt.Errorf("a %T begins no transaction", q)
	}
	tx, err := on.beginReading(ctx)
	return Tx{tx}, Safe(err)
}

func (db *DB) beginReading(ctx context.Context) (pgx.Tx, error) {
	return db.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: readOnly})
}

func (c *Conn) beginReading(ctx context.Context) (pgx.Tx, error) {
	return c.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: readOnly})
}
