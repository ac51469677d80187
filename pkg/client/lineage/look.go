package lineage

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Find is the registered column that goes, or went, by a name: the one it was registered under before any other.
func Find(relation pg.Relation, registered []lifecycle.Column, name string) (lifecycle.Column, bool) {
	for _, known := range registered {
		if known.Source == name {
			return known, true
		}
	}
	for _, known := range registered {
		if name == relation.ColumnAt(known.SourceNum).Name || name == relation.ColumnAt(known.TargetNum).Name {
			return known, true
		}
	}
	return lifecycle.Column{}, false
}

const turnSQL = `SELECT coalesce(max(e.id), 0) FROM cipherfleet.events e JOIN cipherfleet.columns c ON c.id = ANY ($1)
 AND e.table_name = c.schema_name || '.' || c.table_name AND e.column_name = c.source WHERE e.event IN ('cut_over', 'rolled_back', 'dropped', 'advanced')`

// Turn is the last event after which a name may mean another column of the line; 0: there was none.
func (l Line) Turn(ctx context.Context, q pg.Querier) (turn int64, err error) {
	if err := q.QueryRow(ctx, turnSQL, append([]uint32{l.Read.ID}, l.Kin...)).Scan(&turn); err != nil {
		return 0, fmt.Errorf("read its last turn: %w", err)
	}
	return turn, nil
}

// rightsSQL says whether who may insert or update one column may do so with the other.
const rightsSQL = `SELECT coalesce(bool_and(r.sealed OR NOT r.plain), false), coalesce(bool_and(r.plain OR NOT r.sealed), false) FROM (
 SELECT pg_catalog.has_column_privilege($1::pg_catalog.oid, $2::pg_catalog.int2, p.name) AS plain, pg_catalog.has_column_privilege($1::pg_catalog.oid, $3::pg_catalog.int2, p.name) AS sealed
  FROM (VALUES ('INSERT'), ('UPDATE')) AS p (name)) AS r`

// Rights looks what the role may write of two columns: whether it may write the second one wherever it may write the
// first, and the other way round.
func Rights(ctx context.Context, q pg.Querier, relation uint32, first, second int16) (maySecond, mayFirst bool, err error) {
	if err := q.QueryRow(ctx, rightsSQL, relation, first, second).Scan(&maySecond, &mayFirst); err != nil {
		return false, false, fmt.Errorf("look at the rights on it: %w", err)
	}
	return maySecond, mayFirst, nil
}

const originSQL = `SELECT coalesce((SELECT x.c #>> '{origin,format}' FROM cipherfleet.jobs j CROSS JOIN pg_catalog.jsonb_array_elements(j.spec -> 'columns') AS x (c)
 WHERE (x.c ->> 'id')::pg_catalog.int8 = $1 AND (x.c ->> 'source_attnum')::pg_catalog.int4 = $2 ORDER BY j.created_at DESC, j.id LIMIT 1), '')`

// Format is the format that a column's source is encrypted in by somebody else, as its last job knew it; "": by nobody.
func Format(ctx context.Context, q pg.Querier, c lifecycle.Column) (format string, err error) {
	if err := q.QueryRow(ctx, originSQL, int64(c.ID), int32(c.SourceNum)).Scan(&format); err != nil {
		return "", fmt.Errorf("read the format of its source: %w", err)
	}
	return format, nil
}

// A cell's address holds the key that the jobs over its column walk by.
const keySQL = `SELECT ARRAY(SELECT pg_catalog.jsonb_array_elements_text(j.spec -> 'key')) FROM cipherfleet.jobs j
 WHERE j.spec -> 'columns' @> pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('id', $1::pg_catalog.int8)) ORDER BY j.created_at DESC, j.id LIMIT 1`

// Key is the key that a column's rows are bound to, as its last job walked it; empty: it had none.
func Key(ctx context.Context, q pg.Querier, id uint32) (names []string, err error) {
	err = q.QueryRow(ctx, keySQL, int64(id)).Scan(&names)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read the key of its jobs: %w", err)
	}
	return names, nil
}
