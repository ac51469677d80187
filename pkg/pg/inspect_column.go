package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Type is a data type by its catalog names, without modifiers.
type Type struct {
	OID          uint32
	Schema, Name string
	SQL          string // qualified and quoted where needed, no modifiers: pg_catalog.int8, pg_catalog.bpchar, public.citext
	ArraySQL     string // the array type over it, in the same spelling; "" where there is none (arrays of arrays are arrays)
	ArrayOID     uint32 // of the array type over it; 0 where there is none
	Delimiter    string // typdelim: between the elements of an array of it, in text
	Kind         string // typtype: b base, c composite, e enum, r range, m multirange, p pseudo
	Category     string // typcategory: N numeric, S string, A array, …
	Parts        []Type // what it is made of, at any depth, in oid order: an array's element, a range's bounds, a composite's fields
}

// Column is one column of a relation.
type Column struct {
	Name          string
	Attnum        int16
	TypeOID       uint32 // as declared; a domain stays a domain here
	Typmod        int32  // as declared, -1 for none
	Type          string // as declared, for people and for comparing: "character varying(20)", schema-qualified outside pg_catalog
	Base          Type   // with domains taken off
	BaseTypmod    int32  // the modifier that holds for Base, from the column or from a domain
	Collation     string // qualified and quoted: pg_catalog."default"; "" where the type has none
	Deterministic bool   // equal under the collation means equal bytes; true where there is no collation
	NotNull       bool   // and proven so: a NOT NULL that was never validated does not count
	Generated     string // "" or s stored, v virtual
	Identity      string // "" or a always, d by default
	HasDefault    bool
	Storage       string // p plain, e external, m main, x extended
	MaySelect     bool   // the present user may read it in the table and in every leaf
	MayUpdate     bool   // the present user may write it in the table and in every leaf
}

// format_type writes a type's schema only when the search path does not find it; the CASE makes the text the same
// under every search path.
const columnsSQL = `
WITH RECURSIVE chain AS (
  SELECT t.oid AS declared, t.typbasetype AS type, t.typtypmod AS typmod FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT c.declared, t.typbasetype, t.typtypmod FROM chain c JOIN pg_catalog.pg_type t ON t.oid = c.type WHERE t.typtype = 'd'),
domains AS MATERIALIZED (SELECT c.* FROM chain c JOIN pg_catalog.pg_type t ON t.oid = c.type AND t.typtype <> 'd')
SELECT a.attrelid, a.attname::text, a.attnum, a.atttypid, a.atttypmod,
       CASE WHEN shown_ns.nspname = 'pg_catalog' OR NOT pg_catalog.pg_type_is_visible(shown.oid) THEN ''
            ELSE pg_catalog.quote_ident(shown_ns.nspname) || '.' END || pg_catalog.format_type(a.atttypid, a.atttypmod),
       base.oid, base_ns.nspname::text, base.typname::text, pg_catalog.format('%I.%I', base_ns.nspname, base.typname),
       CASE WHEN base.typarray = 0 THEN '' ELSE pg_catalog.format('%I.%I[]', base_ns.nspname, base.typname) END, base.typarray,
       base.typtype::text, base.typcategory::text, base.typdelim::text,
       CASE WHEN declared.typtype = 'd' THEN (SELECT d.typmod FROM domains d WHERE d.declared = a.atttypid) ELSE a.atttypmod END,
       coalesce(pg_catalog.quote_ident(coll_ns.nspname) || '.' || pg_catalog.quote_ident(coll.collname), ''), coalesce(coll.collisdeterministic, true),
       a.attnotnull AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint n
         WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND n.conkey = ARRAY[a.attnum] AND NOT n.convalidated),
       a.attgenerated::text, a.attidentity::text, a.atthasdef, a.attstorage::text,
       ` + maySelectSQL + `,
       ` + mayUpdateSQL + `
FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS wanted (oid)
     JOIN pg_catalog.pg_class c ON c.oid = wanted.oid
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     JOIN pg_catalog.pg_type declared ON declared.oid = a.atttypid
     JOIN pg_catalog.pg_type shown ON shown.oid = CASE WHEN declared.typlen = -1 AND declared.typelem <> 0 THEN declared.typelem ELSE declared.oid END
     JOIN pg_catalog.pg_namespace shown_ns ON shown_ns.oid = shown.typnamespace
     JOIN pg_catalog.pg_type base ON base.oid = CASE WHEN declared.typtype = 'd' THEN (SELECT d.type FROM domains d WHERE d.declared = a.atttypid) ELSE a.atttypid END
     JOIN pg_catalog.pg_namespace base_ns ON base_ns.oid = base.typnamespace
     LEFT JOIN pg_catalog.pg_collation coll ON coll.oid = a.attcollation
     LEFT JOIN pg_catalog.pg_namespace coll_ns ON coll_ns.oid = coll.collnamespace
ORDER BY a.attrelid, a.attnum`

// A right to a column is one in the table and in every partition.
const (
	maySelectSQL = `CASE WHEN c.relkind <> 'p' THEN pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') ELSE (
         SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege(p.attrelid, p.attnum, 'SELECT')) FROM pg_catalog.pg_partition_tree(a.attrelid) AS tree
         JOIN pg_catalog.pg_attribute p ON p.attrelid = tree.relid AND p.attname = a.attname AND NOT p.attisdropped) END`
	mayUpdateSQL = `CASE WHEN c.relkind <> 'p' THEN pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE') ELSE (
         SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege(p.attrelid, p.attnum, 'UPDATE')) FROM pg_catalog.pg_partition_tree(a.attrelid) AS tree
         JOIN pg_catalog.pg_attribute p ON p.attrelid = tree.relid AND p.attname = a.attname AND NOT p.attisdropped) END`
)

// It begins with types that have parts at all, which few do. UNION, not UNION ALL: a composite may hold arrays of itself.
const partsSQL = `
WITH RECURSIVE part AS (
  SELECT a.attrelid AS relation, a.attnum, a.atttypid AS type
  FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS wanted (oid) JOIN pg_catalog.pg_attribute a ON a.attrelid = wanted.oid AND a.attnum > 0 AND NOT a.attisdropped
       JOIN pg_catalog.pg_type t ON t.oid = a.atttypid AND (t.typtype NOT IN ('b', 'e', 'p') OR t.typelem <> 0 AND t.typlen = -1)
  UNION
  SELECT p.relation, p.attnum, inner_type.oid
  FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.type
       CROSS JOIN LATERAL (
         SELECT t.typbasetype WHERE t.typtype = 'd'
         UNION ALL SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1
         UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
         UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
       ) inner_type (oid))
SELECT p.relation, p.attnum, t.oid, n.nspname::text, t.typname::text, pg_catalog.format('%I.%I', n.nspname, t.typname), t.typarray, t.typtype::text, t.typcategory::text
FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.type JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype <> 'd' ORDER BY p.relation, p.attnum, t.oid`

// typePart is one row of partsSQL.
type typePart struct {
	attnum int16
	Type
}

func inspectColumns(ctx context.Context, q Querier, all []*Relation) error {
	columns, err := readAll(ctx, q, columnsSQL, scanColumn, all)
	if err != nil {
		return fmt.Errorf("read columns: %w", err)
	}
	parts, err := readAll(ctx, q, partsSQL, func(row pgx.CollectableRow) (p typePart, err error) {
		return p, row.Scan(&p.attnum, &p.OID, &p.Schema, &p.Name, &p.SQL, &p.ArrayOID, &p.Kind, &p.Category)
	}, all)
	if err != nil {
		return fmt.Errorf("read the parts of types: %w", err)
	}
	for _, r := range all {
		r.Columns = columns[r.OID]
		for i := range r.Columns {
			for _, p := range parts[r.OID] {
				if p.attnum == r.Columns[i].Attnum && p.OID != r.Columns[i].Base.OID {
					r.Columns[i].Base.Parts = append(r.Columns[i].Base.Parts, p.Type)
				}
			}
		}
	}
	return nil
}

func scanColumn(row pgx.CollectableRow) (c Column, err error) {
	return c, row.Scan(&c.Name, &c.Attnum, &c.TypeOID, &c.Typmod, &c.Type,
		&c.Base.OID, &c.Base.Schema, &c.Base.Name, &c.Base.SQL, &c.Base.ArraySQL, &c.Base.ArrayOID, &c.Base.Kind, &c.Base.Category, &c.Base.Delimiter, &c.BaseTypmod,
		&c.Collation, &c.Deterministic, &c.NotNull, &c.Generated, &c.Identity, &c.HasDefault, &c.Storage, &c.MaySelect, &c.MayUpdate)
}
