package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Home pins, for the present transaction, names without a schema to mean Postgres's own: functions, operators, types
// and catalogs. A role, a database or a start-up option may list a schema before pg_catalog, and even behind it an
// operator that fits its operands better wins. It is set in every transaction, and not once for a session, because a
// pooler hands sessions on: to another client it must not be left, and it would not be there for our own next
// transaction. Two more settings change what a statement means or what the catalog prints, and are pinned beside it. It
// has no parameters, and is sent together with the BEGIN; it takes no snapshot, so that the transaction may still be
// given another isolation.
const Home = `SET LOCAL search_path TO pg_catalog, pg_temp; SET LOCAL standard_conforming_strings TO on; SET LOCAL quote_all_identifiers TO off`

// Abroad gives them back, for the present transaction, the meaning that they have for the role. It belongs before what
// fires a user's code, triggers on rows and on DDL, which may rely on it; whatever we say ourselves is qualified there.
const Abroad = `SET LOCAL search_path TO DEFAULT`

const (
	beginAny     = "BEGIN ISOLATION LEVEL READ COMMITTED; " + Home // writes where the server lets it: a standby reads
	beginWriting = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; " + Home
	beginReading = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; " + Home
)

func writing(abroad bool) pgx.TxOptions {
	if abroad {
		return pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	}
	return pgx.TxOptions{BeginQuery: beginWriting}
}

// unwritable is what a standby answers to a BEGIN that wants to write, under the code that says so of every statement.
func unwritable(err error) error {
	if Code(err) == "0A000" {
		return &Error{Code: "25006"}
	}
	return err
}

// queryHome runs one statement in a transaction of its own. The caller closes the rows.
func (db *DB) queryHome(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	tx, err := db.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginAny})
	if err != nil {
		return nil, Safe(err)
	}
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // the first error is the one that matters
		return nil, Safe(err)
	}
	return &lastRows{safeRows: safeRows{rows}, ctx: ctx, tx: tx}, nil
}

// lastRows ends its transaction when the rows end.
type lastRows struct {
	safeRows
	ctx   context.Context //nolint:containedctx // pgx.Rows carries its own in the same way
	tx    pgx.Tx
	ended bool
	err   error // of the commit
}

// Next ends the transaction behind the last row.
func (r *lastRows) Next() bool {
	if r.safeRows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close gives up the rows that were not read, and commits.
func (r *lastRows) Close() {
	r.safeRows.Close()
	if r.ended {
		return
	}
	r.ended = true
	if r.safeRows.Err() != nil {
		r.tx.Rollback(context.WithoutCancel(r.ctx)) //nolint:errcheck // the rows' error is the one that matters
		return
	}
	r.err = Safe(r.tx.Commit(r.ctx))
}

// Err is the statement's failure, or the commit's.
func (r *lastRows) Err() error {
	if err := r.safeRows.Err(); err != nil {
		return err
	}
	return r.err
}

// onlyRow is the first row of a query, or why there is none.
type onlyRow struct {
	rows pgx.Rows
	err  error
}

// Scan reads the row and ends its transaction; pgx.ErrNoRows if there is none.
func (r onlyRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// atHome runs f, which only reads, with [Home]: in a transaction of its own, or in the one that q is, whose search path
// is put back.
func atHome(ctx context.Context, q Querier, f func(Querier) error) error {
	tx, open := q.(Tx)
	if !open {
		return reading(ctx, q, f)
	}
	before := ""
	if err := tx.QueryRow(ctx, `SELECT pg_catalog.current_setting('search_path')`).Scan(&before); err != nil {
		return fmt.Errorf("read the search path: %w", err)
	}
	if _, err := tx.Exec(ctx, Home); err != nil {
		return fmt.Errorf("set the search path: %w", err)
	}
	if err := f(tx); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('search_path', $1, true)`, before); err != nil {
		return fmt.Errorf("put the search path back: %w", err)
	}
	return nil
}

// reading runs f in a transaction that works on a standby, too.
func reading(ctx context.Context, q Querier, f func(Querier) error) error {
	on, ok := q.(interface {
		beginReading(context.Context) (pgx.Tx, error)
	})
	if !ok {
		return fmt.Errorf("a %T begins no transaction", q)
	}
	tx, err := on.beginReading(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", Safe(err))
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it only reads
	return f(Tx{tx})
}

func (db *DB) beginReading(ctx context.Context) (pgx.Tx, error) {
	return db.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginReading})
}

func (c *Conn) beginReading(ctx context.Context) (pgx.Tx, error) {
	return c.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginReading})
}
