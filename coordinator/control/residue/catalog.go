package residue

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// untilDropped is what happens to everything that belongs to the column.
const untilDropped = "it ends with the column: cipherfleet drop"

// statisticsSQL: values of the column, or of an expression over it that an index has.
const statisticsSQL = standing.DependencySQL + `
SELECT DISTINCT s.schemaname || '.' || s.tablename || '.' || s.attname FROM pg_catalog.pg_stats s
 JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
 WHERE (EXISTS (SELECT FROM places p WHERE p.relid = c.oid AND p.attname = s.attname)
   OR EXISTS (SELECT FROM dep WHERE dep.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND dep.objid = c.oid AND c.relkind IN ('i', 'I')))
  AND (s.most_common_vals IS NOT NULL OR s.histogram_bounds IS NOT NULL OR s.most_common_elems IS NOT NULL) ORDER BY 1`

// emptiedSQL says that the last ANALYZE found nothing but NULL.
const emptiedSQL = standing.PlacesSQL + `
SELECT coalesce(pg_catalog.bool_and(s.null_frac = 1), false) FROM places p
 JOIN pg_catalog.pg_class c ON c.oid = p.relid AND c.relkind = 'r' JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = p.attname AND NOT s.inherited`

func (x *search) statistics(ctx context.Context) error {
	if x.s.Plain.Attnum == 0 {
		return nil // Postgres removed them with the column
	}
	if err := x.q.QueryRow(ctx, emptiedSQL, x.s.Relid, x.s.SourceNum).Scan(&x.r.emptied); err != nil {
		return fmt.Errorf("look at statistics: %w", err)
	}
	return x.gather(ctx, statisticsSQL, at(Finding{Kind: Statistics, Says: "the planner's statistics hold values of it (most common ones, a histogram)",
		Then: untilDropped + "; where every value is NULL already, --clean makes them anew"}), x.s.Relid, x.s.SourceNum)
}

// columnIndex is an index that holds keys of the plaintext.
type columnIndex struct {
	table            pg.Table // its own name
	valid, transient bool     // transient: an interrupted REINDEX or CREATE INDEX CONCURRENTLY left it behind
}

// indexesSQL passes over our own on uncovered rows: they hold keys of rows, and tell of a value only whether there is one.
const indexesSQL = standing.DependencySQL + `
SELECT DISTINCT n.nspname, c.relname, i.indisvalid, c.relname ~ '_cc(new|old)[0-9]*$' FROM dep
 JOIN pg_catalog.pg_class c ON dep.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = dep.objid AND c.relkind = 'i'
 JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname !~ '^cipherfleet_([0-9]+_uncovered_[0-9]+|token_[0-9]+_uncovered)$' OR NOT i.indisvalid
UNION SELECT n.nspname, c.relname, i.indisvalid, c.relname ~ '_cc(new|old)[0-9]*$' FROM dep
 JOIN pg_catalog.pg_constraint k ON dep.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = dep.objid
 JOIN pg_catalog.pg_class c ON c.oid = k.conindid AND c.relkind = 'i' AND k.contype IN ('p', 'u', 'x')
 JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2`

func (x *search) findIndexes(ctx context.Context) error {
	if x.s.Plain.Attnum == 0 {
		return nil
	}
	return x.gather(ctx, indexesSQL, func(row pgx.CollectableRow) (Finding, error) {
		var i columnIndex
		if err := row.Scan(&i.table.Schema, &i.table.Name, &i.valid, &i.transient); err != nil {
			return Finding{}, err
		}
		x.r.indexes = append(x.r.indexes, i)
		f := Finding{Kind: Index, Where: i.table.String(), Says: "its keys are values of the column, also of rows that are gone", Then: untilDropped}
		switch {
		case !i.valid && i.transient:
			f.Kind, f.Cleans, f.Says, f.Then = InvalidIndex, true, "an interrupted REINDEX or CREATE INDEX CONCURRENTLY left it behind; no query uses it", "DROP INDEX CONCURRENTLY"
		case !i.valid:
			f.Kind, f.Says, f.Then = InvalidIndex, "it is not valid: no query uses it, and writes may still go into it", "DROP INDEX CONCURRENTLY, or REINDEX INDEX CONCURRENTLY if it is wanted"
		case x.r.emptied:
			f.Cleans, f.Says = true, "every value of the column is NULL by now, but keys of before may still be in its pages"
		}
		return f, nil
	}, x.s.Relid, x.s.SourceNum)
}

// viewsSQL follows views to what reads them. A view's own columns are not followed one by one, so it may list one too
// many.
const viewsSQL = `WITH RECURSIVE reach AS (
 SELECT r.ev_class AS oid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY ($1) AND a.attname = $2
 UNION SELECT r.ev_class FROM reach JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = reach.oid
  JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid)
SELECT n.nspname || '.' || c.relname, c.relkind = 'm' FROM reach JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('v', 'm') ORDER BY 1`

func (x *search) views(ctx context.Context) error {
	if x.s.Plain.Attnum == 0 {
		return nil // none can be left: they would have kept the column
	}
	return x.gather(ctx, viewsSQL, func(row pgx.CollectableRow) (f Finding, err error) {
		holds := false
		err = row.Scan(&f.Where, &holds)
		f.Kind, f.Says, f.Then = View, "it shows the column, itself or through another view; it holds nothing", "change or drop it: it keeps the column from being dropped"
		if holds {
			f.Kind, f.Says = Matview, "it may hold a copy of the column"
		}
		return f, err
	}, x.tree, x.s.Plain.Name)
}

// dependents are functions, triggers, publications and statistics. After the drop only names tell.
func (x *search) dependents(ctx context.Context) error {
	var all []standing.Dependent
	var err error
	if x.s.Plain.Attnum != 0 {
		all, err = standing.Dependents(ctx, x.q, x.s.Relid, x.s.SourceNum)
	} else {
		all, err = standing.DependentsByName(ctx, x.q, x.s.Relid, x.names)
	}
	if err != nil {
		return err
	}
	for _, d := range all {
		f := Finding{Where: strings.TrimPrefix(d.String(), d.Kind+" ")}
		switch d.Kind {
		case "function":
			f.Kind, f.Says, f.Then = Function, "its body names the column", "look what it does with it, and change it"
		case "trigger":
			f.Kind, f.Says, f.Then = Trigger, "it depends on the column", "look where it writes, and change or drop it"
		case "publication":
			f.Kind, f.Says, f.Then = Publication, "it sends the column to subscribers", "drop the column on each subscriber too, and look there for the same residue"
		case "subscription":
			f.Kind, f.Says, f.Then = Subscription, "the table is written by a publisher, which has the plaintext or had it", "encrypt and drop the column there too"
		case "statistics":
			f.Kind, f.Says, f.Then = Extended, "statistics over several columns may hold values of it", untilDropped
		default:
			continue
		}
		x.add(f)
	}
	return nil
}

// copiersSQL are trigger functions that take whole rows: what they wrote elsewhere held the column.
const copiersSQL = `SELECT DISTINCT n.nspname || '.' || f.proname FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
 JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
 WHERE g.tgrelid = ANY ($1) AND NOT g.tgisinternal AND n.nspname <> 'cipherfleet'
  AND f.prosrc ~* '(to_jsonb?|row_to_json|hstore)\s*\(\s*(new|old)\y|\y(new|old)\s*\.\s*\*|\y(new|old)\s*(::|\)\s*\.\s*\*)' ORDER BY 1`

func (x *search) copiers(ctx context.Context) error {
	return x.gather(ctx, copiersSQL, at(Finding{Kind: Trigger, Says: "a trigger of the table calls it, and it takes whole rows: what it wrote elsewhere held the plaintext",
		Then: "look where it writes, and remove the plaintext there"}), x.tree)
}

// copiesSQL finds tables that have a column of the same name and a like type, or documents, and the looks of a copy or
// a history.
const copiesSQL = `SELECT n.nspname || '.' || c.relname || '.' || a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND c.oid <> ALL ($1)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cipherfleet') AND NOT n.nspname ^@ 'pg_'
  AND (c.relname ~* '(audit|hist|log|backup|bak|old|archive|cop(y|ies)|shadow|version|snapshot|tmp|temp|import|export|staging|journal|change)'
   OR pg_catalog.strpos(pg_catalog.lower(c.relname), pg_catalog.lower($2)) > 0)
  AND (a.attname = ANY ($3) AND t.typcategory = coalesce((SELECT y.typcategory FROM pg_catalog.pg_type y WHERE y.oid = pg_catalog.to_regtype($4)), t.typcategory)
   OR t.typname IN ('json', 'jsonb', 'xml', 'hstore') AND c.relname ~* '(audit|hist|log|journal|change|version|archive)')
 ORDER BY 1`

func (x *search) copies(ctx context.Context) error {
	kind, _, _ := strings.Cut(x.s.Type, "(")
	names := append([]string{x.s.Source}, x.names...)
	return x.gather(ctx, copiesSQL, func(row pgx.CollectableRow) (Finding, error) {
		f, of := Finding{Kind: Copy, Then: "look whether it holds values of the column, and encrypt or remove them"}, ""
		err := row.Scan(&f.Where, &of)
		f.Says = fmt.Sprintf("a column of type %s in a table that looks like a copy or a history", of)
		return f, err
	}, x.tree, x.s.Relation.Name, names, kind)
}
