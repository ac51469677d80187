// Package exchange replaces one cell by another of the same value, unless anything of it has changed.
//
// Words: a relic is a cell of an older scheme, as it was read in its row. It is exchanged by comparing and setting: whoever
// wrote the row meanwhile wins, and nobody waits for a row that somebody holds. A relic whose key was deleted since is
// left: what a program still holds of such a key must not bring a value under a key that lives on.
package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Relic is a cell in its row.
type Relic struct {
	Table  pg.Table
	Column string                 // of cells
	Stored any                    // the cell, as its column takes it
	KeyID  uint32                 // that sealed it
	Match  func(first int) string // the condition that a row has the key, in parameters from $first on
	Key    []any                  // their values
	Tenant string                 // the column whose value chooses the new cell's key; "": none does

	version string // of the row that was looked at; "": none was
}

// ErrGone says that the row is not as it was read any more, or that the relic's key was deleted.
var ErrGone = errors.New("the row has changed")

// still is the condition that a relic stands where it was read. The key's values follow the cell and its key's id.
const stillSQL = `%s OPERATOR(pg_catalog.=) $1 AND EXISTS (SELECT FROM cipherfleet.deks d WHERE d.id OPERATOR(pg_catalog.=) $2 AND d.wrapped IS NOT NULL) AND %s`

func (r Relic) still() string { return fmt.Sprintf(stillSQL, pg.Ident(r.Column), r.Match(3)) }

func (r Relic) args(more ...any) []any {
	return append(append([]any{r.Stored, int64(r.KeyID)}, r.Key...), more...)
}

// Spelled is the value of a column as Postgres prints it, by which keys of tenants go; NULL is NULL.
func Spelled(column string) string {
	return fmt.Sprintf("CASE WHEN %s IS NOT NULL THEN pg_catalog.format('%%s', %[1]s) END", pg.Ident(column))
}

// Chosen is the value of the tenant's column in the row; nil is NULL. [ErrGone]: the relic is not there any more.
func (r Relic) Chosen(ctx context.Context, q pg.Querier) (tenant *string, err error) {
	err = q.QueryRow(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s", Spelled(r.Tenant), r.Table.SQL(), r.still()), r.args()...).Scan(&tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrGone
	}
	return tenant, err
}

// Look reads columns of the row, for read, which finds them behind one of ours. From then on the relic is exchanged in the
// very version of the row that it was found in. [ErrGone]: it is not there any more.
func (r *Relic) Look(ctx context.Context, q pg.Querier, columns []string, read func(pgx.Rows) error) error {
	rows, err := q.Query(ctx, fmt.Sprintf("SELECT xmin::pg_catalog.text, %s FROM %s WHERE %s", pg.Idents(columns), r.Table.SQL(), r.still()), r.args()...)
	if err != nil {
		return fmt.Errorf("read a row: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		return cmp.Or(pg.Safe(rows.Err()), ErrGone)
	}
	into := make([]any, 1+len(columns))
	into[0] = &r.version
	if err := rows.Scan(into...); err != nil {
		return fmt.Errorf("read a row: %w", pg.Safe(err))
	}
	return read(rows)
}

// freeSQL locks the row as the update does, unless somebody holds it.
const freeSQL = `SELECT FROM %s WHERE %s FOR NO KEY UPDATE SKIP LOCKED`

const gentlySQL = `SELECT pg_catalog.set_config('lock_timeout', '100', true), pg_catalog.set_config('statement_timeout', '2000', true), pg_catalog.set_config($1, $2, true)`

// Replace puts a cell in the relic's place, in a transaction that says writer of itself by that setting; tenant is what
// [Relic.Chosen] said. [ErrGone]: somebody else was first, or holds the row. What is waited for is the table alone, a
// tenth of a second.
func (r Relic) Replace(ctx context.Context, db *pg.DB, setting, writer string, sealed any, tenant *string) error {
	args := r.args(sealed)
	sql := fmt.Sprintf("UPDATE %s SET %s = $%d WHERE %s", r.Table.SQL(), pg.Ident(r.Column), len(args), r.still())
	if r.Tenant != "" {
		args = append(args, tenant)
		sql += fmt.Sprintf(" AND %s IS NOT DISTINCT FROM $%d::pg_catalog.text", Spelled(r.Tenant), len(args))
	}
	if r.version != "" {
		args = append(args, r.version)
		sql += fmt.Sprintf(" AND xmin OPERATOR(pg_catalog.=) $%d::pg_catalog.text::pg_catalog.xid", len(args))
	}
	return db.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, pg.Abroad); err != nil { // the application's triggers fire
			return err
		}
		if _, err := tx.Exec(ctx, gentlySQL, setting, writer); err != nil {
			return err
		}
		for _, step := range []struct {
			sql  string
			args []any
		}{{fmt.Sprintf(freeSQL, r.Table.SQL(), r.still()), r.args()}, {sql, args}} {
			tag, err := tx.Exec(ctx, step.sql, step.args...)
			if err == nil && tag.RowsAffected() == 0 {
				err = ErrGone
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
