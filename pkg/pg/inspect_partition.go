package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Leaf is a relation that holds rows: a leaf partition, or the table itself.
type Leaf struct {
	Named
	Kind        RelationKind // a leaf may be a foreign table
	Persistence Persistence
	Pages       int64 // now, in blocks
	Rows        int64 // estimated
}

// Rows follow the planner while the size is about what the last ANALYZE or VACUUM saw: its density times the present
// pages. Where pages were added since, they may as well hold dead versions of rows: then the counters of activity say how
// many live, if they have seen what happened since, and from the beginning; a crash sets them back to nothing. Without
// either, a tuple is 28 bytes of header and pointer, its fixed columns, and 32 bytes for each other column.
const leavesSQL = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, size.pages,
       (CASE WHEN size.pages = 0 THEN 0
             WHEN c.relpages > 0 AND c.reltuples >= 0 AND pg_catalog.abs(size.pages - c.relpages) <= c.relpages / 10
             THEN c.reltuples::float8 / c.relpages * size.pages
             WHEN c.reltuples < 0 AND seen.live > 0 OR c.reltuples >= 0 AND seen.whole AND seen.later THEN seen.live
             WHEN c.relpages > 0 AND c.reltuples >= 0 THEN c.reltuples::float8 / c.relpages * size.pages
             ELSE size.pages * (size.block - 24) / (
                  SELECT 28 + coalesce(pg_catalog.sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE 32 END), 0)::float8
                  FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
        END)::int8
FROM ` + treeSQL + ` tree
     JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL (
       SELECT b.block, CASE WHEN c.relkind IN ('r', 'm', 't') THEN pg_catalog.pg_relation_size(c.oid) / b.block ELSE 0 END AS pages
       FROM (SELECT pg_catalog.current_setting('block_size')::int8 AS block) b) size
     CROSS JOIN LATERAL (
       SELECT pg_catalog.pg_stat_get_live_tuples(c.oid) AS live, pg_catalog.pg_stat_get_mod_since_analyze(c.oid) > 0 AS later,
              coalesce(pg_catalog.pg_stat_get_last_analyze_time(c.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid),
                       pg_catalog.pg_stat_get_last_vacuum_time(c.oid), pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) IS NOT NULL AS whole) seen
WHERE c.relkind <> 'p'
ORDER BY c.oid`

const rootSQL = `
SELECT c.oid, n.nspname::text, c.relname::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = coalesce(pg_catalog.pg_partition_root($1::pg_catalog.oid)::pg_catalog.oid, $1::pg_catalog.oid)`

// A partitioned table's key columns, plain ones and those inside expressions, are recorded as columns that depend
// internally on their own table.
const partitionKeySQL = `
SELECT DISTINCT a.attname::text
FROM ` + treeSQL + ` tree
     JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = tree.oid
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = tree.oid AND d.objsubid > 0
          AND d.refclassid = d.classid AND d.refobjid = tree.oid AND d.refobjsubid = 0 AND d.deptype = 'i'
     JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.oid AND a.attnum = d.objsubid
ORDER BY 1`

func inspectPartitions(ctx context.Context, q Querier, all []*Relation) error {
	leaves, err := readEach(ctx, q, leavesSQL, scanLeaf, all)
	if err != nil {
		return fmt.Errorf("read leaves: %w", err)
	}
	roots, err := readEach(ctx, q, rootSQL, scanNamed, all)
	if err != nil {
		return fmt.Errorf("read the partition root: %w", err)
	}
	keys, err := readEach(ctx, q, partitionKeySQL, pgx.RowTo[string], all)
	if err != nil {
		return fmt.Errorf("read the partition key: %w", err)
	}
	for _, r := range all {
		r.Leaves, r.PartitionKey = leaves[r.OID], keys[r.OID]
		for _, root := range roots[r.OID] {
			r.Root = root
		}
	}
	return nil
}

func scanLeaf(row pgx.CollectableRow) (l Leaf, err error) {
	return l, row.Scan(&l.OID, &l.Schema, &l.Name, &l.Kind, &l.Persistence, &l.Pages, &l.Rows)
}

const parentsSQL = `
SELECT c.oid, n.nspname::text, c.relname::text
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhrelid = $1::pg_catalog.oid AND c.relkind <> 'p' ORDER BY i.inhseqno`

const childrenSQL = `
SELECT c.oid, n.nspname::text, c.relname::text
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = $1::pg_catalog.oid AND NOT c.relispartition ORDER BY 2, 3`

func inspectInheritance(ctx context.Context, q Querier, all []*Relation) error {
	parents, err := readEach(ctx, q, parentsSQL, scanNamed, all)
	if err != nil {
		return fmt.Errorf("read inheritance parents: %w", err)
	}
	children, err := readEach(ctx, q, childrenSQL, scanNamed, all)
	if err != nil {
		return fmt.Errorf("read inheritance children: %w", err)
	}
	for _, r := range all {
		r.Parents, r.Children = parents[r.OID], children[r.OID]
	}
	return nil
}

func scanNamed(row pgx.CollectableRow) (n Named, err error) {
	return n, row.Scan(&n.OID, &n.Schema, &n.Name)
}
