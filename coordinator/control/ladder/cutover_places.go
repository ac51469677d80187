package ladder

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// placesOfSQL is the table $1 and its partitions, from the root downwards, with what the columns called $2 (plaintext)
// and $3 (cells) have there: default, NOT NULL where the parent has none, comments, and rights on the plaintext that
// nobody has on the cells. Of the plaintext's type it tells whether a domain in it has a default.
const placesOfSQL = `WITH RECURSIVE tree AS (
 SELECT $1::pg_catalog.oid AS relid, 0 AS level, NULL::pg_catalog.oid AS parent
 UNION SELECT relid, level, parentrelid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid) WHERE level > 0),
chain AS (
 SELECT a.attrelid, t.typtype, t.typbasetype, t.typdefault FROM tree JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.relid AND a.attname = $2::text
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 UNION ALL
 SELECT c.attrelid, t.typtype, t.typbasetype, t.typdefault FROM chain c JOIN pg_catalog.pg_type t ON t.oid = c.typbasetype WHERE c.typtype = 'd')
SELECT tree.relid, n.nspname::text, c.relname::text,
 coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), ''),
 EXISTS (SELECT FROM chain WHERE chain.attrelid = tree.relid AND chain.typtype = 'd' AND chain.typdefault IS NOT NULL),
 p.attnotnull AND NOT coalesce((SELECT up.attnotnull FROM pg_catalog.pg_attribute up WHERE up.attrelid = tree.parent AND up.attname = $2::text), false),
 coalesce(pg_catalog.col_description(tree.relid, p.attnum), ''), coalesce(pg_catalog.col_description(tree.relid, s.attnum), ''),
 (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('privilege', g.privilege_type, 'grantee', coalesce(r.rolname::text, ''), 'grantable', g.is_grantable)
    ORDER BY r.rolname, g.privilege_type)
   FROM (SELECT grantee, privilege_type, pg_catalog.bool_or(is_grantable) AS is_grantable FROM pg_catalog.aclexplode(p.attacl) GROUP BY 1, 2) g
   LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
   WHERE NOT EXISTS (SELECT FROM pg_catalog.aclexplode(s.attacl) h
     WHERE h.grantee = g.grantee AND h.privilege_type = g.privilege_type AND (h.is_grantable OR NOT g.is_grantable)))
 FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_catalog.pg_attribute p ON p.attrelid = tree.relid AND p.attname = $2::text
 JOIN pg_catalog.pg_attribute s ON s.attrelid = tree.relid AND s.attname = $3::text
 LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = p.attrelid AND d.adnum = p.attnum AND p.attgenerated = ''
 ORDER BY tree.level, n.nspname, c.relname`

// placesOf reads what a cutover moves. It does so without a search path, so that every name in a default is qualified.
// Places where nothing moves are left out.
func placesOf(ctx context.Context, q pg.Querier, s standing.Standing) (moved []standing.CutoverPlace, err error) {
	path := ""
	if err := q.QueryRow(ctx, `SELECT pg_catalog.current_setting('search_path'), pg_catalog.set_config('search_path', '', true)`).Scan(&path, nil); err != nil {
		return nil, fmt.Errorf("read what is to be moved: %w", err)
	}
	defer func() {
		if _, back := q.Exec(ctx, `SELECT pg_catalog.set_config('search_path', $1, true)`, path); err == nil {
			err = back
		}
	}()
	all, err := pg.Collect(ctx, q, placesOfSQL, func(row pgx.CollectableRow) (p standing.CutoverPlace, err error) {
		err = row.Scan(&p.OID, &p.Schema, &p.Name, &p.Default, &p.NullDefault, &p.NotNull, &p.PlainComment, &p.SealedComment, &p.Grants)
		return p, err
	}, s.Relation.OID, s.Plain.Name, s.Sealed.Name)
	if err != nil {
		return nil, fmt.Errorf("read what is to be moved: %w", err)
	}
	for _, p := range all {
		if p.Default != "" || p.NullDefault || p.NotNull || p.PlainComment != "" || len(p.Grants) > 0 {
			moved = append(moved, p)
		}
	}
	return moved, nil
}
