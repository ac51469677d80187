package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Column is one registered column. ID is in each of its cells; the names are those of its registration, for ever.
type Column struct {
	ID                   uint32
	Relid                uint32 // the table; of a partitioned table its root
	SourceNum, TargetNum int16  // attnums in that table
	Table                pg.Table
	Source, Target       string
	Type, Collation      string // as Postgres formats it; Collation may be ""
}

// Moves says that the column was registered to take the cells of another one, which stand in its source: then it goes by
// the name of its target.
func (c Column) Moves() bool { return c.Source == c.Target && c.SourceNum != c.TargetNum }

// MovesFrom says that the cells that it was registered to take are that column's.
func (c Column) MovesFrom(of Column) bool {
	return c.Moves() && c.ID != of.ID && c.Relid == of.Relid && c.SourceNum == of.TargetNum && of.TargetNum != 0
}

// ConflictError refuses to register a column because another one stands where it would.
type ConflictError struct {
	Column Column // the one that is registered
	Reason string
}

// Error says which column is in the way.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("column %d (%s.%s) is registered already: %s", e.Column.ID, e.Column.Table, e.Column.Source, e.Reason)
}

const columnFields = `c.id, c.relid, coalesce(c.source_attnum, 0), coalesce(c.target_attnum, 0), c.schema_name, c.table_name, c.source, c.target, c.type, coalesce(c.collname, '')`

func scanColumn(row pgx.CollectableRow) (c Column, err error) {
	err = row.Scan(&c.ID, &c.Relid, &c.SourceNum, &c.TargetNum, &c.Table.Schema, &c.Table.Name, &c.Source, &c.Target, &c.Type, &c.Collation)
	return c, err
}

// Columns are the registered columns of a table (the root of a partitioned one), in the order of their ids.
func Columns(ctx context.Context, q pg.Querier, relid uint32) ([]Column, error) {
	columns, err := collect(ctx, q, scanColumn, `SELECT `+columnFields+` FROM cipherfleet.columns c WHERE c.relid = $1 AND c.retired_at IS NULL ORDER BY c.id`, relid)
	return columns, wrap("read registered columns", err)
}

// RegisterColumn gives a column its id, or finds the one it has, by its place in the table: a renamed column stays the
// same. A column that was dropped and made again is another one. Asked for another target than the registered one, or
// for a name that a renamed column was registered under, it is a [*ConflictError].
func RegisterColumn(ctx context.Context, tx pgx.Tx, want Column) (Column, error) {
	for _, locked := range []bool{false, true} {
		if locked { // whoever moves the revision keeps others from registering until the end of its transaction
			if err := bumpRevision(ctx, tx); err != nil {
				return Column{}, err
			}
		}
		found, err := findColumn(ctx, tx, want, locked)
		if err != nil || found.ID != 0 {
			return found, err
		}
	}
	return insertColumn(ctx, tx, want)
}

// findSQL also tells whether the registered source and target are still there.
const findSQL = `SELECT ` + columnFields + `,
 EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.relid AND a.attnum = c.source_attnum AND NOT a.attisdropped),
 EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.relid AND a.attnum = c.target_attnum AND NOT a.attisdropped)
 FROM cipherfleet.columns c WHERE c.relid = $1 AND c.retired_at IS NULL AND (c.source_attnum = $2 OR c.source = $3) ORDER BY c.source_attnum = $2 DESC`

// findColumn is the registered column that want is, or the zero Column. With the registry locked it retires one whose
// source is gone, and follows a target that was made anew.
func findColumn(ctx context.Context, tx pgx.Tx, want Column, locked bool) (Column, error) {
	type candidate struct {
		Column
		hasSource, hasTarget bool
	}
	candidates, err := collect(ctx, tx, func(row pgx.CollectableRow) (c candidate, err error) {
		err = row.Scan(&c.ID, &c.Relid, &c.SourceNum, &c.TargetNum, &c.Table.Schema, &c.Table.Name, &c.Source, &c.Target, &c.Type, &c.Collation, &c.hasSource, &c.hasTarget)
		return c, err
	}, findSQL, want.Relid, want.SourceNum, want.Source)
	if err != nil {
		return Column{}, fmt.Errorf("find registered column: %w", err)
	}
	for _, c := range candidates {
		switch {
		case c.SourceNum == want.SourceNum && c.TargetNum == want.TargetNum:
			return c.Column, nil
		case c.SourceNum == want.SourceNum && c.hasTarget:
			return Column{}, &ConflictError{c.Column, "with another target, " + c.Target}
		case c.SourceNum != want.SourceNum && c.hasSource:
			return Column{}, &ConflictError{c.Column, "it was renamed, and another column has taken its name"}
		case !locked:
			return Column{}, nil
		case c.SourceNum == want.SourceNum:
			return moveTarget(ctx, tx, c.Column, want)
		}
		if _, err := tx.Exec(ctx, `UPDATE cipherfleet.columns SET retired_at = now() WHERE id = $1`, c.ID); err != nil {
			return Column{}, fmt.Errorf("retire column %d: %w", c.ID, err)
		}
	}
	return Column{}, nil
}

func moveTarget(ctx context.Context, tx pgx.Tx, c, want Column) (Column, error) {
	c.Target, c.TargetNum = want.Target, want.TargetNum
	_, err := tx.Exec(ctx, `UPDATE cipherfleet.columns SET target = $2, target_attnum = $3 WHERE id = $1`, c.ID, c.Target, c.TargetNum)
	return c, wrap(fmt.Sprintf("move target of column %d", c.ID), err)
}

// MoveSource follows a source that was made anew: a dropped plaintext that is to come back.
func MoveSource(ctx context.Context, tx pgx.Tx, id uint32, attnum int16) error {
	if err := bumpRevision(ctx, tx); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE cipherfleet.columns SET source_attnum = $2 WHERE id = $1`, id, attnum)
	return wrap(fmt.Sprintf("move source of column %d", id), err)
}

const insertColumnSQL = `INSERT INTO cipherfleet.columns (relid, source_attnum, target_attnum, schema_name, table_name, source, target, type, collname)
 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, '')) RETURNING id`

func insertColumn(ctx context.Context, tx pgx.Tx, c Column) (Column, error) {
	err := tx.QueryRow(ctx, insertColumnSQL, c.Relid, c.SourceNum, c.TargetNum, c.Table.Schema, c.Table.Name, c.Source, c.Target, c.Type, c.Collation).Scan(&c.ID)
	return c, wrap("register column", err)
}

// Retire takes a column out of the registry's care. Its id, schemes and keys stay.
func Retire(ctx context.Context, tx pgx.Tx, id uint32) error {
	if err := bumpRevision(ctx, tx); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, `UPDATE cipherfleet.columns SET retired_at = coalesce(retired_at, now()) WHERE id = $1`, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = errors.New("there is no such column")
	}
	return wrap(fmt.Sprintf("retire column %d", id), err)
}

// Installation is what identifies this installation and tells whether loaded keys are up to date.
type Installation struct {
	Registry [16]byte // part of what every cell authenticates
	Revision int64    // grows with each change of columns, schemes or keys
}

// ReadInstallation reads it.
func ReadInstallation(ctx context.Context, q pg.Querier) (i Installation, err error) {
	err = q.QueryRow(ctx, `SELECT id, revision FROM cipherfleet.installation`).Scan(&i.Registry, &i.Revision)
	return i, wrap("read installation", err)
}

// Channel is what is notified with the new revision whenever the registry moved. It is a hint: who hears nothing polls.
const Channel = "cipherfleet_registry"

const bumpSQL = `WITH moved AS (UPDATE cipherfleet.installation SET revision = revision + 1 RETURNING revision)
SELECT m.revision FROM moved m, pg_catalog.pg_notify('` + Channel + `', m.revision::pg_catalog.text)`

// bumpRevision locks the registry until the end of the transaction.
func bumpRevision(ctx context.Context, tx pgx.Tx) error {
	_, err := nextRevision(ctx, tx)
	return err
}

// nextRevision is the same; it returns the revision that is the registry's if the transaction commits.
func nextRevision(ctx context.Context, tx pgx.Tx) (revision int64, err error) {
	err = tx.QueryRow(ctx, bumpSQL).Scan(&revision)
	return revision, wrap("move the registry's revision", err)
}

func collect[T any](ctx context.Context, q pg.Querier, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, pg.Safe(err)
	}
	all, err := pgx.CollectRows(rows, scan)
	return all, pg.Safe(err)
}
