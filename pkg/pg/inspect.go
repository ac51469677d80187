package pg

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// RelationKind is Postgres' relkind: what sort of relation a name means.
type RelationKind string

// The kinds a user may name by mistake or on purpose.
const (
	KindTable        RelationKind = "r"
	KindPartitioned  RelationKind = "p"
	KindView         RelationKind = "v"
	KindMaterialized RelationKind = "m"
	KindForeign      RelationKind = "f"
	KindSequence     RelationKind = "S"
	KindIndex        RelationKind = "i"
	KindComposite    RelationKind = "c"
)

// Persistence is Postgres' relpersistence.
type Persistence string

// The persistences; only a permanent table survives a crash.
const (
	Permanent Persistence = "p"
	Unlogged  Persistence = "u"
	Temporary Persistence = "t"
)

// Named is a relation by its oid and its literal names.
type Named struct {
	OID          uint32
	Schema, Name string
}

// Table is the name as a [Table].
func (n Named) Table() Table { return Table{Schema: n.Schema, Name: n.Name} }

// Relation is what the catalog says about one table at one moment. Its names are literal, its facts about privileges
// and row security hold for the user who asked.
type Relation struct {
	Named
	Kind        RelationKind
	Persistence Persistence
	System      bool // of pg_catalog, information_schema or pg_toast

	IsPartition   bool     // a partition of Root
	IsPartitioned bool     // it has no rows of its own, its leaves have
	Root          Named    // the topmost partitioned table; the relation itself where there is none
	PartitionKey  []string // columns that decide, at any level below, in which leaf a row lies
	Leaves        []Leaf   // where rows lie: the leaf partitions, or the table itself; in oid order
	Parents       []Named  // by INHERITS, not by partition
	Children      []Named  // by INHERITS, not by partition

	Columns        []Column // in the table's order, without dropped ones
	Keys           []Key    // every unique index, the primary key first, then by number of columns and name
	Indexes        []Index  // every index, by name
	Checks         []Check  // CHECK constraints of the relation itself
	Rules          []Rule   // rewrite rules of the relation and its leaves
	Triggers       []Trigger
	Publications   []string        // logical replication that carries its changes, by any partition
	Identity       string          // replica identity: d default, n nothing, f full, i index
	PublishedParts []PublishedPart // leaves whose updates a publication carries in part
	Unidentified   []Unidentified  // leaves of which Postgres refuses every UPDATE for want of a replica identity

	RowSecurity RowSecurity
	Privileges  Privileges
	Server      Server
}

// Rows is the estimated number of rows of all leaves, from statistics or, without them, from size and column widths.
func (r Relation) Rows() int64 {
	var n int64
	for _, leaf := range r.Leaves {
		n += leaf.Rows
	}
	return n
}

// Pages is the present size of all leaves, in blocks of the server's block size.
func (r Relation) Pages() int64 {
	var n int64
	for _, leaf := range r.Leaves {
		n += leaf.Pages
	}
	return n
}

// Column finds a column by its literal name.
func (r Relation) Column(name string) (Column, bool) {
	for _, c := range r.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}

// ColumnAt is the column with this number, or the zero one if it is gone.
func (r Relation) ColumnAt(attnum int16) Column {
	at := slices.IndexFunc(r.Columns, func(c Column) bool { return c.Attnum == attnum })
	if at < 0 {
		return Column{}
	}
	return r.Columns[at]
}

// RowSecurity says whether policies exist and whether they filter what the present user sees, in any leaf.
type RowSecurity struct{ Enabled, Forced, Applies bool }

// Privileges of the present user on the relation and all its leaves; the columns carry their own.
type Privileges struct {
	Schema  bool // USAGE on the schema of the table and of every leaf
	Owner   bool // may alter the table
	Trigger bool // may create triggers on it
	Version bool // may read xmin, the version of a row: a right on chosen columns alone does not include it
}

// Inspect reads everything [Relation] says about one table. An empty schema means "the first on the search path".
// It takes no lock that outlives its statements; inside a repeatable-read [Tx] all of it is of one moment.
// A name that is not there is a [*NotFound].
func Inspect(ctx context.Context, q Querier, schema, table string) (Relation, error) {
	r, err := inspectRelation(ctx, q, schema, table)
	if err != nil {
		return Relation{}, err
	}
	if err := inspectEach(ctx, q, []*Relation{&r}); err != nil {
		return Relation{}, fmt.Errorf("inspect %s: %w", r.Table(), err)
	}
	return r, nil
}

// It alone asks what the search path shows, and so it names all that it uses with its schema.
const relationSQL = `
SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, c.relpersistence::pg_catalog.text,
       c.relreplident::pg_catalog.text,
       n.nspname OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[])
       OR pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast'), c.relispartition
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relname OPERATOR(pg_catalog.=) $2::pg_catalog.text AND CASE WHEN $1::pg_catalog.text OPERATOR(pg_catalog.=) ''
      THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname OPERATOR(pg_catalog.=) $1::pg_catalog.text END`

func inspectRelation(ctx context.Context, q Querier, schema, table string) (Relation, error) {
	var r Relation
	err := q.QueryRow(ctx, relationSQL, schema, table).Scan(&r.OID, &r.Schema, &r.Name, &r.Kind, &r.Persistence, &r.Identity,
		&r.System, &r.IsPartition)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, notFound(ctx, q, schema, table)
	}
	if err != nil {
		return r, fmt.Errorf("inspect %s: %w", Table{Schema: schema, Name: table}, err)
	}
	r.IsPartitioned = r.Kind == KindPartitioned
	return r, nil
}

// treeSQL is the relation $1 and every partition below it. An array has the planner expect a few of them, as there are,
// and not the thousand that it expects of any function.
const treeSQL = `(SELECT t.oid FROM pg_catalog.unnest(ARRAY(
  SELECT $1::pg_catalog.oid UNION SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid))) AS t (oid))`

const accessSQL = `
SELECT pg_catalog.bool_or(c.relrowsecurity), pg_catalog.bool_or(c.relforcerowsecurity),
       pg_catalog.bool_or(c.relkind IN ('r', 'p') AND pg_catalog.row_security_active(c.oid)),
       pg_catalog.bool_and(pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')),
       pg_catalog.bool_and(pg_catalog.pg_has_role(c.relowner, 'USAGE')),
       pg_catalog.bool_and(pg_catalog.has_table_privilege(c.oid, 'TRIGGER')),
       coalesce(pg_catalog.bool_and(pg_catalog.has_column_privilege(c.oid, (-2)::int2, 'SELECT')), false)
FROM ` + treeSQL + ` tree JOIN pg_catalog.pg_class c USING (oid)`

// access is one row of accessSQL.
type access struct {
	RowSecurity
	Privileges
}

func inspectAccess(ctx context.Context, q Querier, all []*Relation) error {
	found, err := readEach(ctx, q, accessSQL, func(row pgx.CollectableRow) (a access, err error) {
		return a, row.Scan(&a.Enabled, &a.Forced, &a.Applies, &a.Schema, &a.Owner, &a.Trigger, &a.Version)
	}, all)
	if err != nil {
		return fmt.Errorf("read privileges: %w", err)
	}
	for _, r := range all {
		for _, a := range found[r.OID] {
			r.RowSecurity, r.Privileges = a.RowSecurity, a.Privileges
		}
	}
	return nil
}

const publicationsSQL = `
SELECT DISTINCT p.pubname::text
FROM pg_catalog.pg_publication_tables p
     JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname
     JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
     JOIN ` + treeSQL + ` tree ON tree.oid = c.oid
ORDER BY 1`

func inspectPublications(ctx context.Context, q Querier, all []*Relation) error {
	found, err := readEach(ctx, q, publicationsSQL, pgx.RowTo[string], all)
	if err != nil {
		return fmt.Errorf("read publications: %w", err)
	}
	for _, r := range all {
		r.Publications = found[r.OID]
	}
	return nil
}

// readRows runs a query and scans each row.
func readRows[T any](ctx context.Context, q Querier, sql string, scan pgx.RowToFunc[T], args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
