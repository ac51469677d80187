package standing

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Dependent is something in the database that reads a column, or says something about it, and that a swap of names, or
// the column's end, would give another meaning without a word.
type Dependent struct {
	Kind   string `json:"kind"`            // view, index, function, …
	Name   string `json:"name"`            // literal; with its schema where it has one of its own
	Table  string `json:"table,omitempty"` // that it hangs on, where that is needed to find it
	ByName bool   `json:"by_name"`         // it means whatever bears the name; all others stay with the column when it is renamed
}

// String is what a person looks for.
func (d Dependent) String() string {
	if d.Table == "" {
		return d.Kind + " " + d.Name
	}
	return d.Kind + " " + d.Name + " on " + d.Table
}

// Dependents lists what depends on one column of a table, there or in any partition, ours left out: views, materialized
// views, rules, policies, functions, generated columns, identities, triggers, constraints, foreign keys from and to it,
// indexes, extended statistics, publications, subscriptions, and of ours the conditions of other columns. Of functions
// whose body is a text it lists those that name column and table, or work on its rows and name the column; a name that is
// put together at run time is not seen. It is sorted, and each is listed once.
func Dependents(ctx context.Context, q pg.Querier, relation uint32, attnum int16) ([]Dependent, error) {
	all, err := BoundDependents(ctx, q, relation, attnum)
	if err != nil {
		return nil, err
	}
	named, err := namedInFunctions(ctx, q, relation, attnum)
	return sorted(append(all, named...)), err
}

// BoundDependents are those of which the catalog knows; whoever wants to make another one needs a lock on the table, or
// on what it belongs to.
func BoundDependents(ctx context.Context, q pg.Querier, relation uint32, attnum int16) (all []Dependent, err error) {
	for _, sql := range []string{dependRewriteSQL, dependTableSQL, dependOtherSQL, dependFlowSQL} {
		list, err := dependents(ctx, q, sql, relation, attnum)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return sorted(all), nil
}

func sorted(all []Dependent) []Dependent {
	slices.SortFunc(all, func(a, b Dependent) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Table, b.Table))
	})
	return slices.CompactFunc(all, func(a, b Dependent) bool { return a.Kind == b.Kind && a.Name == b.Name && a.Table == b.Table })
}

func dependents(ctx context.Context, q pg.Querier, sql string, args ...any) ([]Dependent, error) {
	list, err := pg.Collect(ctx, q, sql, pgx.RowToStructByPos[Dependent], args...)
	if err != nil {
		return nil, fmt.Errorf("look for dependents: %w", err)
	}
	return list, nil
}

// PlacesSQL is the column in its table and in every partition, where it may have another number; DependencySQL what the
// catalog knows to depend on it.
const (
	PlacesSQL = `WITH places AS (
 SELECT a.attrelid AS relid, a.attnum, a.attname, a.attidentity FROM pg_catalog.pg_attribute a
  WHERE a.attrelid IN (SELECT $1::pg_catalog.oid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid))
   AND NOT a.attisdropped AND a.attname = (SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = $1::pg_catalog.oid AND attnum = $2::int2))`
	DependencySQL = PlacesSQL + `, dep AS (
 SELECT d.classid, d.objid, d.objsubid, p.relid, p.attnum FROM pg_catalog.pg_depend d
  JOIN places p ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = p.relid AND d.refobjsubid = p.attnum)`
	tableName = `pg_catalog.concat_ws('.', tn.nspname, tc.relname)`
)

// dependRewriteSQL: a whole row in a rule's action is variable number 0, and the catalog does not always say so.
const dependRewriteSQL = PlacesSQL + `
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'rule' END,
 CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.concat_ws('.', n.nspname, c.relname) ELSE r.rulename END,
 CASE WHEN c.relkind IN ('v', 'm') THEN '' ELSE pg_catalog.concat_ws('.', n.nspname, c.relname) END, false
 FROM places p
 JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = p.relid
 JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid
 JOIN pg_catalog.pg_class c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE d.refobjsubid = p.attnum OR r.ev_action::pg_catalog.text ~ ':varattno 0 '`

// dependTableSQL is what hangs on a table: its own, or another's that refers to it. What a partition has from its
// parent is listed there alone. Of ours it lists the conditions of other columns, by their targets.
const dependTableSQL = DependencySQL + `
SELECT x.kind, x.name, ` + tableName + `, false FROM (
 SELECT 'policy' AS kind, o.polname AS name, o.polrelid AS relid FROM dep JOIN pg_catalog.pg_policy o ON dep.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND o.oid = dep.objid
 UNION ALL
 SELECT 'trigger', o.tgname, o.tgrelid FROM dep JOIN pg_catalog.pg_trigger o ON dep.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND o.oid = dep.objid
  JOIN pg_catalog.pg_proc f ON f.oid = o.tgfoid
  WHERE NOT o.tgisinternal AND o.tgparentid = 0 AND f.pronamespace IS DISTINCT FROM pg_catalog.to_regnamespace('cipherfleet')::pg_catalog.oid
 UNION ALL
 SELECT 'condition of', a.attname, o.tgrelid FROM dep JOIN pg_catalog.pg_trigger o ON dep.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND o.oid = dep.objid
  JOIN pg_catalog.pg_constraint k ON k.conrelid = o.tgrelid AND k.contypid = 0 AND k.conname = pg_catalog.regexp_replace(o.tgname, '^~cipherfleet_([0-9]+)_missed_update$', 'cipherfleet_\1_cell')
  JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
  WHERE o.tgparentid = 0 AND pg_catalog.to_regproc(pg_catalog.regexp_replace(o.tgname, '^~cipherfleet_([0-9]+)_missed_update$', 'cipherfleet.within_\1')) IS NOT NULL
   AND NOT EXISTS (SELECT FROM dep own JOIN pg_catalog.pg_trigger g ON own.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND g.oid = own.objid
   WHERE g.tgrelid = o.tgrelid AND g.tgname = pg_catalog.replace(o.tgname, '_missed_update', '_insert'))
 UNION ALL
 SELECT CASE o.contype WHEN 'f' THEN 'foreign key' WHEN 'u' THEN 'unique constraint' WHEN 'p' THEN 'primary key' WHEN 'x' THEN 'exclusion constraint' ELSE 'check constraint' END,
  o.conname, o.conrelid FROM dep JOIN pg_catalog.pg_constraint o ON dep.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND o.oid = dep.objid
  WHERE o.contype IN ('f', 'u', 'p', 'x', 'c') AND o.conparentid = 0 AND (o.contype <> 'c' OR o.conislocal) AND NOT o.conname ^@ 'cipherfleet_'
 UNION ALL
 SELECT 'generated column', a.attname, a.attrelid FROM dep JOIN pg_catalog.pg_attrdef o ON dep.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND o.oid = dep.objid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = o.adrelid AND a.attnum = o.adnum WHERE a.attgenerated <> '' AND a.attinhcount = 0
 UNION ALL
 SELECT 'generated column', a.attname, a.attrelid FROM dep JOIN pg_catalog.pg_attribute a
  ON dep.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND a.attrelid = dep.objid AND a.attnum = dep.objsubid WHERE a.attgenerated <> '' AND a.attinhcount = 0
 UNION ALL
 SELECT 'identity', p.attname, p.relid FROM places p WHERE p.attidentity <> '' AND p.relid = $1::pg_catalog.oid) x
 JOIN pg_catalog.pg_class tc ON tc.oid = x.relid JOIN pg_catalog.pg_namespace tn ON tn.oid = tc.relnamespace`

// dependOtherSQL is what has a schema of its own.
const dependOtherSQL = DependencySQL + `
SELECT CASE WHEN i.indisunique THEN 'unique index' ELSE 'index' END, pg_catalog.concat_ws('.', n.nspname, c.relname), '', false
 FROM dep JOIN pg_catalog.pg_class c ON dep.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = dep.objid
 JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT c.relispartition AND NOT c.relname ^@ 'cipherfleet_'
UNION ALL
SELECT 'statistics', pg_catalog.concat_ws('.', n.nspname, s.stxname), '', false
 FROM dep JOIN pg_catalog.pg_statistic_ext s ON dep.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND s.oid = dep.objid
 JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
UNION ALL
SELECT 'function', ` + functionName + `, '', false
 FROM dep JOIN pg_catalog.pg_proc f ON dep.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND f.oid = dep.objid
 JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace`

const functionName = `pg_catalog.concat(n.nspname, '.', f.proname, '(', pg_catalog.pg_get_function_identity_arguments(f.oid), ')')`

// dependFlowSQL is logical replication. Subscribers match columns by name, except where a column list or a row filter
// names the column: that stays with it. attnames is not there before Postgres 15, where no list could leave a column out.
const dependFlowSQL = DependencySQL + `
SELECT DISTINCT ON (x.name) 'publication', x.name, '', x.by_name FROM (
 SELECT u.pubname AS name, false AS by_name FROM dep JOIN pg_catalog.pg_publication_rel o ON dep.classid = 'pg_catalog.pg_publication_rel'::pg_catalog.regclass AND o.oid = dep.objid
  JOIN pg_catalog.pg_publication u ON u.oid = o.prpubid
 UNION ALL
 SELECT t.pubname, true FROM places p JOIN pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_publication_tables t ON t.schemaname = n.nspname AND t.tablename = c.relname
  WHERE coalesce(pg_catalog.to_jsonb(t) -> 'attnames' ? p.attname::pg_catalog.text, true)) x ORDER BY 2, x.by_name`

// namedSQL finds functions by the text of their body: $2 matches the column's name as a word, $3 one of the tables'..
const namedSQL = `WITH tree AS (SELECT $1::pg_catalog.oid AS relid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid))
SELECT 'function', ` + functionName + `, '', true
 FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace JOIN pg_catalog.pg_language l ON l.oid = f.prolang
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'cipherfleet') AND l.lanname NOT IN ('c', 'internal') AND f.prosrc ~* $2::pg_catalog.text
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND e.objid = f.oid AND e.deptype = 'e')
  AND (f.prosrc ~* $3::pg_catalog.text
   OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgfoid = f.oid AND g.tgrelid IN (SELECT relid FROM tree))
   OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_type y ON y.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
     LEFT JOIN pg_catalog.pg_type e ON e.oid = y.typelem
     WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = f.oid
      AND (y.typrelid IN (SELECT relid FROM tree) OR e.typrelid IN (SELECT relid FROM tree))))
UNION ALL
SELECT 'subscription', u.subname, '', true FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_subscription u ON u.oid = r.srsubid
 WHERE r.srrelid IN (SELECT relid FROM tree)`

const treeNamesSQL = `SELECT relname::text FROM pg_catalog.pg_class WHERE oid IN (SELECT $1::pg_catalog.oid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid))`

// namedInFunctions are those that know the column by its name alone.
func namedInFunctions(ctx context.Context, q pg.Querier, relation uint32, attnum int16) ([]Dependent, error) {
	names, err := pg.Values[string](ctx, q, `SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum = $2 AND NOT attisdropped`, relation, attnum)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return DependentsByName(ctx, q, relation, names)
}

// DependentsByName lists what knows a column of the table by one of these names alone: of a column that is gone nothing
// else can be found.
func DependentsByName(ctx context.Context, q pg.Querier, relation uint32, names []string) ([]Dependent, error) {
	tables, err := pg.Values[string](ctx, q, treeNamesSQL, relation)
	if err != nil {
		return nil, fmt.Errorf("look for dependents: %w", err)
	}
	return dependents(ctx, q, namedSQL, relation, words(names), words(tables))
}

// words is a regular expression of Postgres's for any of the names as a whole word, as it stands in SQL.
func words(names []string) string {
	patterns := make([]string, len(names))
	for i, name := range names {
		patterns[i] = regexp.QuoteMeta(strings.ReplaceAll(name, `"`, `""`))
	}
	return `(^|[^[:alnum:]_$])(` + strings.Join(patterns, "|") + `)($|[^[:alnum:]_$])`
}
