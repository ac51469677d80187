package client

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/client/template"
	"github.com/cipherfleet/cipherfleet/pkg/client/token"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Tokens are what a blind index of the column, by its name, holds for these values, for statements of one's own: a row is
// found that meets one of the conditions, WHERE email_bidx = ANY($1) OR …, for while its key is changed an index has two
// columns. NULL has no token, and is left out. With placeholders {email by email_bidx $1} does the same. It is
// [token.ErrNoIndex] while no such index is ready.
func (c *Column) Tokens(index string, values ...any) ([]token.Condition, error) {
	m := c.client.maps.Get().(*pgtype.Map)
	defer c.client.maps.Put(m)
	return c.at.Load().tokensOf(m, index, values)
}

// tokensOf makes values tokens as they become cells: by the column's type.
func (s *standing) tokensOf(m *pgtype.Map, index string, values []any) ([]token.Condition, error) {
	plains := make([][]byte, 0, len(values))
	for _, v := range values {
		wire, err := s.kind.wire(m, rounded(bare(v)), s.kind.codec.Wire())
		if err != nil {
			return nil, err
		}
		if wire == nil {
			continue
		}
		plain, err := s.kind.codec.Encode(nil, wire)
		if err != nil {
			return nil, err
		}
		plains = append(plains, plain)
	}
	return s.tokens.Lookup(index, plains)
}

// lookup puts the conditions that find rows by a value, or by any of a slice of values.
func (w *writing) lookup(column *Column, s *standing, p template.Piece) error {
	if p.Param > len(w.given) {
		return fmt.Errorf("there is no argument for $%d", p.Param)
	}
	values := []any{w.given[p.Param-1]}
	if v := reflect.ValueOf(values[0]); v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 {
		values = values[:0]
		for i := range v.Len() {
			values = append(values, v.Index(i).Interface())
		}
	}
	conditions, err := s.tokensOf(w.types, p.Index, values)
	if err != nil {
		return fmt.Errorf("look up in %s.%s: %w", column.table, column.name, err)
	}
	terms := make([]string, len(conditions))
	for i, c := range conditions {
		w.args = append(w.args, c.Tokens)
		terms[i] = fmt.Sprintf("%s OPERATOR(pg_catalog.=) ANY ($%d::pg_catalog.bytea[])", pg.Ident(c.Column), len(w.args))
	}
	w.sql.WriteString("(" + strings.Join(terms, " OR ") + ")")
	return nil
}
