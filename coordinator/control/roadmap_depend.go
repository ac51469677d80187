package control

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// dependsOn is [Dependents] of many columns. The catalog is asked about all of them at once; the bodies of functions are
// read only for those columns that one of them may name.
func dependsOn(ctx context.Context, q pg.Querier, relations []uint32, attnums []int16, names []string) (map[place][]Dependent, error) {
	var known, named []place
	_, err := collected(ctx, q, dependsSQL, func(row pgx.CollectableRow) (p place, err error) {
		var inCatalog, inBodies bool
		if err := row.Scan(&p.relation, &p.attnum, &inCatalog, &inBodies); err != nil {
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
	found := map[place][]Dependent{}
	for _, sql := range []string{dependRewriteSQL, dependTableSQL, dependOtherSQL, dependFlowSQL} {
		if err := dependEach(ctx, q, sql, known, found); err != nil {
			return nil, err
		}
	}
	for _, p := range named {
		if found[p], err = Dependents(ctx, q, p.relation, p.attnum); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// dependEach runs one of the queries of [Dependents] for each column, in one statement.
func dependEach(ctx context.Context, q pg.Querier, sql string, places []place, found map[place][]Dependent) error {
	var relations []uint32
	var attnums []int16
	for _, p := range places {
		relations, attnums = append(relations, p.relation), append(attnums, p.attnum)
	}
	each := strings.NewReplacer("$1::pg_catalog.oid", "w.relation", "$2::int2", "w.attnum").Replace(sql)
	_, err := collected(ctx, q, `SELECT DISTINCT w.relation, w.attnum, x.* FROM unnest($1::oid[], $2::int2[]) AS w (relation, attnum)
 CROSS JOIN LATERAL (`+each+`) AS x (kind, name, on_table, by_name) ORDER BY 1, 2, 3, 4, 5`, func(row pgx.CollectableRow) (p place, err error) {
		var d Dependent
		err = row.Scan(&p.relation, &p.attnum, &d.Kind, &d.Name, &d.Table, &d.ByName)
		found[p] = append(found[p], d)
		return p, err
	}, relations, attnums)
	return err
}
