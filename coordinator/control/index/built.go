package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// plainIndex is that an index i, which pg_class has as r, is of the tokens alone, of all rows: the constraint k is that of the tokens.
const plainIndex = `i.indnatts = 1 AND i.indkey[0] = k.conkey[1] AND i.indpred IS NULL AND i.indexprs IS NULL AND EXISTS (SELECT FROM pg_catalog.pg_am m WHERE m.oid = r.relam AND m.amname = 'btree')`

const builtSQL = `SELECT i.indisvalid AND i.indisready AND i.indislive FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid
 JOIN pg_catalog.pg_constraint k ON k.conrelid = i.indrelid AND k.contype = 'c' AND k.conname = $3 WHERE i.indrelid = $1 AND r.relname = $2 AND i.indisunique = $4 AND ` + plainIndex

// built says what stands of the index that lookups use. One of its name that is another is none.
func built(ctx context.Context, q pg.Querier, c column, x lifecycle.Index) (string, error) {
	valid := false
	err := q.QueryRow(ctx, builtSQL, c.Relation.OID, ddl.TokenIndexName(x.ID), ddl.TokenCheckName(x.ID), x.Unique).Scan(&valid)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return BuiltMissing, nil
	case err != nil:
		return "", fmt.Errorf("look for the index of tokens: %w", err)
	case !valid:
		return BuiltInvalid, nil
	}
	return BuiltValid, nil
}

const takenSQL = `SELECT pg_catalog.format('%I.%I', n.nspname, r.relname), r.relkind IN ('i', 'I') FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS p (home, name)
 JOIN pg_catalog.pg_namespace n ON n.nspname = p.home::name JOIN pg_catalog.pg_class r ON r.relnamespace = n.oid AND r.relname = p.name::name LIMIT 1`

// mustBeFree refuses to make indexes whose names something else bears: it would be in the way, or be taken for what an
// earlier build left, and dropped.
func mustBeFree(ctx context.Context, q pg.Querier, missing ...ddl.Token) error {
	homes, names := make([]string, len(missing)), make([]string, len(missing))
	for i, one := range missing {
		homes[i], names[i] = one.Table.Schema, one.IndexName()
	}
	name, isIndex := "", false
	err := q.QueryRow(ctx, takenSQL, homes, names).Scan(&name, &isIndex)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for what bears the name of the index of tokens: %w", err)
	}
	what := "TABLE"
	if isIndex {
		what = "INDEX"
	}
	return standing.Refuse("index", "ALTER "+what+" "+name+" RENAME TO another name, or drop it if nobody needs it; then ask for the same again",
		"%s is another one than the index of tokens, and bears its name", name)
}
