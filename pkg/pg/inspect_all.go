package pg

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

const relationsSQL = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,
       n.nspname IN ('pg_catalog', 'information_schema') OR n.nspname ^@ 'pg_toast', c.relispartition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1::oid[]) ORDER BY c.oid`

// InspectAll is [Inspect] of many tables, with as many statements as one takes. What is gone, or is dropped meanwhile,
// is missing from the result.
func InspectAll(ctx context.Context, q Querier, tables []uint32) (map[uint32]Relation, error) {
	var all []*Relation
	err := atHome(ctx, q, func(q Querier) (err error) {
		all, err = readRows(ctx, q, relationsSQL, func(row pgx.CollectableRow) (*Relation, error) {
			var r Relation
			err := row.Scan(&r.OID, &r.Schema, &r.Name, &r.Kind, &r.Persistence, &r.Identity, &r.System, &r.IsPartition)
			r.IsPartitioned = r.Kind == KindPartitioned
			return &r, err
		}, tables)
		return err
	})
	if err == nil {
		err = inspectEach(ctx, q, all)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect %d tables: %w", len(tables), err)
	}
	found := make(map[uint32]Relation, len(all))
	for _, r := range all {
		if r.Root.OID != 0 {
			found[r.OID] = *r
		}
	}
	return found, nil
}

// FindTables is the oids of those of the tables that are there.
func FindTables(ctx context.Context, q Querier, names []Table) (map[Table]uint32, error) {
	schemas, tables := make([]string, len(names)), make([]string, len(names))
	for i, t := range names {
		schemas[i], tables[i] = t.Schema, t.Name
	}
	found := make(map[Table]uint32, len(names))
	err := atHome(ctx, q, func(q Querier) error {
		all, err := readRows(ctx, q, `SELECT c.oid, n.nspname::text, c.relname::text FROM unnest($1::text[], $2::text[]) w (schema, name)
 JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name`, scanNamed, schemas, tables)
		for _, n := range all {
			found[n.Table()] = n.OID
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find tables: %w", err)
	}
	return found, nil
}

// inspectEach fills in everything but what tells one relation from another.
func inspectEach(ctx context.Context, q Querier, all []*Relation) error {
	steps := []func(context.Context, Querier, []*Relation) error{
		inspectServer, inspectPartitions, inspectInheritance, inspectColumns, inspectKeys, inspectIndexes, inspectChecks, inspectRules,
		inspectTriggers, inspectAccess, inspectPublications, inspectIdentity,
	}
	return atHome(ctx, q, func(q Querier) error {
		for _, step := range steps {
			if err := step(ctx, q, all); err != nil {
				return err
			}
		}
		return nil
	})
}

// A query with an order is not taken apart by the planner: it runs for one relation after the other.
const eachSQL = `SELECT wanted.oid, found.* FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS wanted (oid) CROSS JOIN LATERAL (%s) AS found`

// readEach runs a query about the relation $1 for every relation, in one statement: the rows of each, in their order.
func readEach[T any](ctx context.Context, q Querier, sql string, scan pgx.RowToFunc[T], all []*Relation) (map[uint32][]T, error) {
	return readAll(ctx, q, fmt.Sprintf(eachSQL, strings.ReplaceAll(sql, "$1::pg_catalog.oid", "wanted.oid")), scan, all)
}

// readAll is the same with a query about the relations $1, each row of which begins with its relation's oid.
func readAll[T any](ctx context.Context, q Querier, sql string, scan pgx.RowToFunc[T], all []*Relation) (map[uint32][]T, error) {
	wanted := make([]uint32, len(all))
	for i, r := range all {
		wanted[i] = r.OID
	}
	found := make(map[uint32][]T, len(all))
	_, err := readRows(ctx, q, sql, func(row pgx.CollectableRow) (none struct{}, err error) {
		var oid uint32
		value, err := scan(rowOf{row, &oid})
		found[oid] = append(found[oid], value)
		return none, err
	}, wanted)
	return found, err
}

// rowOf is a row behind the oid that it belongs to.
type rowOf struct {
	pgx.CollectableRow
	oid *uint32
}

// Scan takes the oid first.
func (r rowOf) Scan(into ...any) error {
	return r.CollectableRow.Scan(append([]any{r.oid}, into...)...)
}
