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

// PublishedPart is a leaf of which a publication carries the updates of some rows, or some columns, only.
type PublishedPart struct {
	Leaf        Named
	Publication string
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

// partlySQL are the leaves whose updates a publication carries in part: by a row filter or a list of columns, which must
// fit the leaf's replica identity. Before Postgres 15 there are none, and no columns in the catalog that would say so.
const partlySQL = `
SELECT DISTINCT leaf.oid, n.nspname::text, leaf.relname::text, p.pubname::text
FROM ` + treeSQL + ` tree
     JOIN pg_catalog.pg_class leaf ON leaf.oid = tree.oid AND leaf.relkind = 'r'
     JOIN pg_catalog.pg_namespace n ON n.oid = leaf.relnamespace
     CROSS JOIN LATERAL (
       SELECT leaf.oid UNION SELECT a.relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors(leaf.oid) a (relid)) up (oid)
     JOIN pg_catalog.pg_publication_rel listed ON listed.prrelid = up.oid
      AND (pg_catalog.to_jsonb(listed) ->> 'prqual' IS NOT NULL OR pg_catalog.to_jsonb(listed) ->> 'prattrs' IS NOT NULL)
     JOIN pg_catalog.pg_publication p ON p.oid = listed.prpubid AND p.pubupdate
ORDER BY 1, 4`

func inspectIdentity(ctx context.Context, q Querier, all []*Relation) error {
	found, err := readEach(ctx, q, unidentifiedSQL, func(row pgx.CollectableRow) (u Unidentified, err error) {
		return u, row.Scan(&u.Leaf.OID, &u.Leaf.Schema, &u.Leaf.Name, &u.Publication)
	}, all)
	if err != nil {
		return fmt.Errorf("read replica identities: %w", err)
	}
	partly, err := readEach(ctx, q, partlySQL, func(row pgx.CollectableRow) (p PublishedPart, err error) {
		return p, row.Scan(&p.Leaf.OID, &p.Leaf.Schema, &p.Leaf.Name, &p.Publication)
	}, all)
	if err != nil {
		return fmt.Errorf("read publications of parts: %w", err)
	}
	for _, r := range all {
		r.Unidentified, r.PublishedParts = found[r.OID], partly[r.OID]
	}
	return nil
}
