package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Unidentified is a leaf of which Postgres refuses every UPDATE: a publication carries its updates, and nothing
// identifies its rows to a subscriber.
type Unidentified struct {
	Leaf        Named
	Publication string // the first by name, if there are several
}

// A publication carries a leaf's updates if it lists the leaf or any table above it, whether it publishes through the
// root or not; the view resolves those of all tables and of schemas. The identity is always the leaf's own. A primary
// key that is deferrable identifies nothing.
const unidentifiedSQL = `
SELECT DISTINCT ON (leaf.oid) leaf.oid, n.nspname::text, leaf.relname::text, p.pubname::text
FROM ` + treeSQL + ` tree
     JOIN pg_catalog.pg_class leaf ON leaf.oid = tree.oid AND leaf.relkind = 'r' AND leaf.relreplident <> 'f'
     JOIN pg_catalog.pg_namespace n ON n.oid = leaf.relnamespace
     CROSS JOIN LATERAL (
       SELECT leaf.oid UNION SELECT a.relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors(leaf.oid) a (relid)) up (oid)
     JOIN pg_catalog.pg_class listed ON listed.oid = up.oid
     JOIN pg_catalog.pg_namespace listed_ns ON listed_ns.oid = listed.relnamespace
     JOIN pg_catalog.pg_publication_tables t ON t.schemaname = listed_ns.nspname AND t.tablename = listed.relname
     JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname AND p.pubupdate
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = leaf.oid AND i.indisvalid
        AND CASE leaf.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate WHEN 'i' THEN i.indisreplident ELSE false END)
ORDER BY leaf.oid, p.pubname`

func inspectIdentity(ctx context.Context, q Querier, all []*Relation) error {
	found, err := readEach(ctx, q, unidentifiedSQL, func(row pgx.CollectableRow) (u Unidentified, err error) {
		return u, row.Scan(&u.Leaf.OID, &u.Leaf.Schema, &u.Leaf.Name, &u.Publication)
	}, all)
	if err != nil {
		return fmt.Errorf("read replica identities: %w", err)
	}
	for _, r := range all {
		r.Unidentified = found[r.OID]
	}
	return nil
}
