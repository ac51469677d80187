package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// SchemeRow is one scheme as it stands in the registry.
type SchemeRow struct {
	Definition         // KeyID is the key of all rows, or of those of no tenant
	State              SchemeState
	Revision           int64 // of the registry: who carries it, or a later one, can read the scheme
	Activated          int64 // the revision it became active with, the last time; 0: never
	Keys               int   // DEKs that are not destroyed
	Created            time.Time
	Retired, Destroyed time.Time // zero: not yet
}

const schemesSQL = `SELECT s.column_id, s.number, s.suite, s.codec, ` + bindingSQL + `, s.padding, s.nulls, s.state, coalesce(s.tenant_column, ''), ` + retainSQL + `, s.revision, s.activated,
 s.created_at, s.retired_at, s.destroyed_at,
 coalesce((SELECT d.id FROM cipherfleet.deks d WHERE d.column_id = s.column_id AND d.scheme = s.number AND d.tenant IS NULL), 0),
 (SELECT count(*) FROM cipherfleet.deks d WHERE d.column_id = s.column_id AND d.scheme = s.number AND d.wrapped IS NOT NULL)
 FROM cipherfleet.schemes s WHERE s.column_id = $1 ORDER BY s.number`

// Schemes are all schemes a column ever had, in the order of their numbers.
func Schemes(ctx context.Context, q pg.Querier, column uint32) ([]SchemeRow, error) {
	all, err := collect(ctx, q, scanScheme, schemesSQL, column)
	return all, wrap(fmt.Sprintf("read schemes of column %d", column), err)
}

func scanScheme(row pgx.CollectableRow) (s SchemeRow, err error) {
	var binding, columns string
	var retired, destroyed *time.Time
	err = row.Scan(&s.Column, &s.Number, &s.Suite, &s.Codec, &binding, &columns, &s.Padding, &s.Nulls, &s.State, &s.Tenant, &s.Retain, &s.Revision, &s.Activated,
		&s.Created, &retired, &destroyed, &s.KeyID, &s.Keys)
	if err != nil {
		return s, err
	}
	if retired != nil {
		s.Retired = *retired
	}
	if destroyed != nil {
		s.Destroyed = *destroyed
	}
	s.Scheme, err = s.Bind(binding, columns)
	return s, err
}
