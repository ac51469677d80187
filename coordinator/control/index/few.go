package index

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const (
	fewValues  = 500   // different ones: countries, years of birth, post codes of a town
	oftenEach  = 10    // rows for each of them, on average
	sampleRows = 10000 // that are looked at where there are no statistics
)

const statisticsSQL = `SELECT s.n_distinct::pg_catalog.float8, s.null_frac::pg_catalog.float8 FROM pg_catalog.pg_stats s
 WHERE s.schemaname = $1 AND s.tablename = $2 AND s.attname = $3`

// few says in words that the column has few different values; "" if it has many, or nobody can tell without opening its
// cells. Statistics say, and where there are none a sample of so many rows.
func (c column) few(ctx context.Context, q pg.Querier) (string, error) {
	plain := c.Plain
	switch {
	case plain.Attnum == 0:
		return "", nil
	case plain.Base.Kind == "e":
		return "its type is an enumeration", nil
	case plain.Base.Name == "bool":
		return "its type is boolean", nil
	}
	distinct, rows, err := c.statistics(ctx, q)
	if err == nil && rows == 0 {
		distinct, rows, err = c.sample(ctx, q)
	}
	if err != nil {
		return "", err
	}
	if distinct > fewValues || rows < oftenEach*distinct {
		return "", nil
	}
	return fmt.Sprintf("about %.0f in %.0f rows", distinct, rows), nil
}

// statistics are those of the last ANALYZE; no rows if there was none, or the role may not see them.
func (c column) statistics(ctx context.Context, q pg.Querier) (distinct, rows float64, err error) {
	var nulls float64
	err = q.QueryRow(ctx, statisticsSQL, c.Relation.Schema, c.Relation.Name, c.Plain.Name).Scan(&distinct, &nulls)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read statistics of %s: %w", c.name(), err)
	}
	rows = float64(c.Relation.Rows()) * (1 - nulls)
	if distinct < 0 { // a share of the rows
		distinct = math.Round(-distinct * float64(c.Relation.Rows()))
	}
	return distinct, rows, nil
}

// sample reads the first rows of a table that the server knows nothing of.
func (c column) sample(ctx context.Context, q pg.Querier) (distinct, rows float64, err error) {
	name := pg.Ident(c.Plain.Name)
	sql := fmt.Sprintf("SELECT pg_catalog.count(DISTINCT s.v)::pg_catalog.float8, pg_catalog.count(s.v)::pg_catalog.float8 FROM (SELECT t.%s::pg_catalog.text AS v FROM %s t LIMIT %d) s",
		name, c.Relation.Table().SQL(), sampleRows)
	if err := q.QueryRow(ctx, sql).Scan(&distinct, &rows); err != nil {
		return 0, 0, fmt.Errorf("sample %s: %w", c.name(), err)
	}
	return distinct, rows, nil
}
