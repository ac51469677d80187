package client

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/client/kind"
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

// Token is the token of the cell's value, for the column of tokens of that name: an argument of type bytea that belongs
// beside the cell, in the same statement. A cell that is written without it leaves its row to the fleet, and until then no
// lookup finds it. With placeholders nobody needs it. Sending it fails with [token.ErrNoIndex] where there is no such column,
// or none that the role may write.
func (c *Cell[T]) Token(name string) driver.Valuer {
	c.tokened = true
	return valuer(func() (driver.Value, error) {
		if c.column == nil {
			return nil, fmt.Errorf("the cell is of no column: make it with In: %w", ErrValue)
		}
		client, s := c.column.client, c.column.at.Load()
		m := client.maps.Get().(*pgtype.Map)
		defer client.maps.Put(m)
		plain, err := s.plaintext(m, c)
		if err != nil {
			return nil, fmt.Errorf("write a token of %s.%s: %w", c.column.table, c.column.name, err)
		}
		made, err := s.tokens.One(name, plain)
		if err != nil {
			return nil, fmt.Errorf("write a token of %s.%s: %w", c.column.table, c.column.name, err)
		}
		return made, nil
	})
}

// valuer is an argument that is made when it is sent.
type valuer func() (driver.Value, error)

// Value is for database/sql and pgx.
func (v valuer) Value() (driver.Value, error) { return v() }

// tellBare says once for each column that its cells come without the tokens of its blind indexes.
func (c *Client) tellBare(s *standing) {
	names := s.tokens.Names()
	if len(names) == 0 {
		return
	}
	if _, told := c.bare.LoadOrStore(s.id, true); !told {
		c.config.Log.Warn("a cell is written without the tokens of its blind indexes: no lookup finds its row until the fleet has filled them", "client", c.id,
			"table", s.table.String(), "column", s.sealed, "tokens", names, "hint", "write {column = $1}, or Cell.Token beside the cell")
	}
}

// tokensOf makes values tokens as they become cells: by the column's type.
func (s *standing) tokensOf(m *pgtype.Map, index string, values []any) ([]token.Condition, error) {
	plains := make([][]byte, 0, len(values))
	for _, v := range values {
		plain, err := s.plaintext(m, v)
		if err != nil {
			return nil, err
		}
		if plain != nil {
			plains = append(plains, plain)
		}
	}
	return s.tokens.Lookup(index, plains)
}

// plaintext is what is sealed of a value; nil of NULL.
func (s *standing) plaintext(m *pgtype.Map, v any) ([]byte, error) {
	wire, err := s.kind.Wire(m, kind.Rounded(kind.Bare(v)), s.kind.Codec.Wire())
	if err != nil || wire == nil {
		return nil, err
	}
	return s.kind.Codec.Encode([]byte{}, wire)
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
