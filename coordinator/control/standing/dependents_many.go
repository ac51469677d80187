package standing

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Place is a column in its table.
type Place struct {
	Relation uint32
	Attnum   int16
}

// dependsSQL says whether the catalog knows anything to depend on a column, and whether the body of any function names
// it. Both are wider than what stops a cutover: they say where a closer look is needed. In partitions a column may have
// another number.
const dependsSQL = `WITH w AS MATERIALIZED (SELECT * FROM unnest($1::oid[], $2::int2[], $3::text[]) AS w (relation, attnum, name)),
 bodies AS MATERIALIZED (SELECT lower(string_agg(f.prosrc, ' ')) AS text FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'cipherfleet') AND l.lanname NOT IN ('c', 'internal')),
 named AS MATERIALIZED (SELECT n.name FROM (SELECT DISTINCT w.name FROM w) n, bodies WHERE position(replace(lower(n.name), '"', '""') IN bodies.text) > 0)
SELECT * FROM (SELECT w.relation, w.attnum,
  EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = w.relation
   AND (d.refobjsubid = w.attnum OR d.classid = 'pg_rewrite'::regclass)
   AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger g WHERE g.oid = d.objid AND g.tgname ^@ '` + ddl.TriggerPrefix + `' AND g.tgname !~ '_missed_update$'))
   AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.conname ^@ 'cipherfleet_')))
  OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = w.relation) OR EXISTS (SELECT FROM pg_publication)
  OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = w.relation AND a.attnum = w.attnum AND a.attidentity <> '') AS known,
  w.name IN (SELECT name FROM named) OR EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = w.relation) AS named FROM w) x WHERE known OR named`

// DependentsOf is [Dependents] of many columns. The catalog is asked about all of them at once; the bodies of functions are
// read only for those columns that one of them may name.
func DependentsOf(ctx context.Context, q pg.Querier, relations []uint32, attnums []int16, names []string) (map[Place][]Dependent, error) {
	var known, named []Place
	_, err := pg.Collect(ctx, q, dependsSQL, func(row pgx.CollectableRow) (p Place, err error) {
		var inCatalog, inBodies bool
		if err := row.Scan(&p.Relation, &p.Attnum, &inCatalog, &inBodies); err != nil {
			return p, err
		}
		if inBodies {
			named = append(named, p)
		} else {
			known = append(known, p)
		}
		return p, nil
	}, relations, attnums, names)
	if err != nil {
		return nil, err
	}
	found := map[Place][]Dependent{}
	for _, sql := range []string{dependRewriteSQL, dependTableSQL, dependOtherSQL, dependFlowSQL} {
		if err := dependEach(ctx, q, sql, known, found); err != nil {
			return nil, err
		}
	}
	for _, p := range named {
		if found[p], err = Dependents(ctx, q, p.Relation, p.Attnum); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// dependEach runs one of the queries of [Dependents] for each column, in one statement.
func dependEach(ctx context.Context, q pg.Querier, sql string, places []Place, found map[Place][]Dependent) error {
	var relations []uint32
	var attnums []int16
	for _, p := range places {
		relations, attnums = append(relations, p.Relation), append(attnums, p.Attnum)
	}
	each := strings.NewReplacer("$1::pg_catalog.oid", "w.relation", "$2::int2", "w.attnum").Replace(sql)
	_, err := pg.Collect(ctx, q, `SELECT DISTINCT w.relation, w.attnum, x.* FROM unnest($1::oid[], $2::int2[]) AS w (relation, attnum)
 CROSS JOIN LATERAL (`+each+`) AS x (kind, name, on_table, by_name) ORDER BY 1, 2, 3, 4, 5`, func(row pgx.CollectableRow) (p Place, err error) {
		var d Dependent
		err = row.Scan(&p.Relation, &p.Attnum, &d.Kind, &d.Name, &d.Table, &d.ByName)
		found[p] = append(found[p], d)
		return p, err
	}, relations, attnums)
	return err
}
