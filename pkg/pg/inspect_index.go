package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Index is an index of the relation itself; of a partitioned table the one that its partitions' indexes belong to.
type Index struct {
	Named
	Columns []string // that it is over, names in an expression or a condition too; in the table's order
	Unique  bool
	Valid   bool
	Partial bool
	SQL     string // its definition as Postgres prints it
	Bytes   int64  // of it and of its partitions
}

const indexesSQL = `
SELECT i.indexrelid, n.nspname::text, c.relname::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND NOT a.attisdropped AND a.attnum > 0
             AND (a.attnum = ANY (i.indkey) OR a.attnum IN (
               SELECT d.refobjsubid FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
                 AND d.refclassid = d.classid AND d.refobjid = i.indrelid)) ORDER BY a.attnum),
       i.indisunique, i.indisvalid, i.indpred IS NOT NULL, pg_catalog.pg_get_indexdef(i.indexrelid),
       coalesce((SELECT pg_catalog.sum(pg_catalog.pg_relation_size(t.relid)) FROM pg_catalog.pg_partition_tree(i.indexrelid) t WHERE t.isleaf),
         pg_catalog.pg_relation_size(i.indexrelid))::int8
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = $1::pg_catalog.oid ORDER BY c.relname`

func inspectIndexes(ctx context.Context, q Querier, all []*Relation) error {
	found, err := readEach(ctx, q, indexesSQL, func(row pgx.CollectableRow) (x Index, err error) {
		return x, row.Scan(&x.OID, &x.Schema, &x.Name, &x.Columns, &x.Unique, &x.Valid, &x.Partial, &x.SQL, &x.Bytes)
	}, all)
	if err != nil {
		return fmt.Errorf("read indexes: %w", err)
	}
	for _, r := range all {
		r.Indexes = found[r.OID]
	}
	return nil
}
