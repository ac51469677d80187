package client

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Copy streams rows into the table of these columns by COPY, in the caller's transaction. Names are those of the rows'
// values: encrypted columns by the names the application knows, the key's columns among them where a scheme is
// row-bound. It returns how many rows were written.
func (cs Columns) Copy(ctx context.Context, tx pgx.Tx, names []string, source pgx.CopyFromSource) (int64, error) {
	if len(cs) == 0 {
		return 0, fmt.Errorf("copy rows: no columns are given")
	}
	table := cs[0].at.Load().table
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('`+ddl.WriterSetting+`', '`+ddl.WriterClient+`', true)`); err != nil {
		return 0, fmt.Errorf("copy rows into %s: %w", table, pg.Safe(err))
	}
	s := &sealing{ctx: ctx, tx: tx, rows: source, columns: make([]copied, len(names)), names: names}
	var into []string
	for i, name := range names {
		s.columns[i] = copied{}
		if column := cs.named(name); column != nil {
			at := column.at.Load().now()
			s.columns[i] = copied{column, at, at.keyAmong(names), at.tenantAmong(column, names)}
			into = append(into, at.writes()...)
			if len(at.bound) > 0 || at.twin != nil && len(at.twin.bound) > 0 {
				s.named = map[string]any{}
			}
			continue
		}
		into = append(into, name)
	}
	n, err := tx.CopyFrom(ctx, pgx.Identifier{table.Schema, table.Name}, into, s)
	if s.failed != nil {
		return n, fmt.Errorf("copy rows into %s: %w", table, s.failed)
	}
	if err != nil {
		return n, fmt.Errorf("copy rows into %s: %w", table, pg.Safe(err))
	}
	return n, nil
}

// keyAmong is where the key's columns are among names; nil if one is missing.
func (s *standing) keyAmong(names []string) []int {
	if s.key == nil {
		return nil
	}
	at := make([]int, len(s.key.Parts))
	for i, part := range s.key.Parts {
		if at[i] = slices.Index(names, part.Name); at[i] < 0 {
			return nil
		}
	}
	return at
}

// tenantAmong is where the column that chooses a row's key is among names; -1 if it is not, or none does.
func (s *standing) tenantAmong(column *Column, names []string) int {
	scheme, _ := column.client.chain.Active(s.id)
	return slices.Index(names, s.tenants[scheme.Number].name)
}

// sealing is a source of rows that seals another's.
type sealing struct {
	ctx     context.Context
	tx      pgx.Tx
	rows    pgx.CopyFromSource
	columns []copied
	values  []any
	key     Key
	names   []string
	named   map[string]any // the row's other values by their columns; nil: no cell is bound to one
	failed  error          // why a row was not sealed: the server only hears, and says, that it was given up
}

type copied struct {
	column *Column // nil: a column like any other
	at     *standing
	key    []int
	tenant int // -1: none
}

// with are the row's values of columns like any other.
func (s *sealing) with(given []any) map[string]any {
	if s.named == nil {
		return nil
	}
	for i, c := range s.columns {
		if c.column == nil {
			s.named[s.names[i]] = given[i]
		}
	}
	return s.named
}

// Next is for pgx.
func (s *sealing) Next() bool { return s.rows.Next() }

// Err is for pgx.
func (s *sealing) Err() error { return s.rows.Err() }

// Values is for pgx, which has encoded the row before it asks for the next one.
func (s *sealing) Values() ([]any, error) {
	given, err := s.rows.Values()
	if err != nil {
		return nil, err
	}
	if len(given) != len(s.columns) {
		return nil, fmt.Errorf("a row of %d values for %d columns", len(given), len(s.columns))
	}
	s.values = s.values[:0]
	for i, c := range s.columns {
		if c.column == nil {
			s.values = append(s.values, given[i])
			continue
		}
		r := row{key: s.key[:0], with: s.with(given)}
		for _, k := range c.key {
			r.key = append(r.key, given[k])
		}
		if s.key = r.key; c.tenant >= 0 {
			r.tenant, r.tenanted = given[c.tenant], true
		}
		values, err := c.column.client.stored(s.ctx, s.tx.Conn().TypeMap(), c.at, r, given[i])
		if err != nil {
			s.failed = fmt.Errorf("write %s.%s: %w", c.column.table, c.column.name, err)
			return nil, s.failed
		}
		s.values = append(s.values, values...)
	}
	return s.values, nil
}
