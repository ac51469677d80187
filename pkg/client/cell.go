package client

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"maps"
	"reflect"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Cell is a value that knows whose it is: it opens itself when it is scanned, and seals itself when it is an argument.
// It is for statements that name the column of cells themselves, and for database/sql; with placeholders and [Columns.Row]
// a plain destination does. It prints as its value: it is the application's.
type Cell[T any] struct {
	V      T
	Valid  bool // false: NULL
	column *Column
	key    Key
	with   map[string]any

	tokened bool // its token goes along
}

// In is the cell of a row. The elements of key may be pointers, which are followed when the cell is scanned or sealed:
// to what the same Scan has filled before. Without a row-bound scheme it needs none; there is no harm in naming it.
func In[T any](column *Column, key ...any) *Cell[T] { return &Cell[T]{column: column, key: key} }

// With names the value of another column of the row, for a scheme that is bound to it, and returns the cell. It may be a
// pointer, as an element of the key.
func (c *Cell[T]) With(column string, value any) *Cell[T] {
	with := maps.Clone(c.with)
	if with == nil {
		with = map[string]any{}
	}
	with[column] = value
	c.with = with
	return c
}

// row is what the cell is of.
func (c *Cell[T]) row() row {
	r := row{key: followed(c.key), with: map[string]any{}}
	for name, value := range c.with {
		r.with[name] = followed(Key{value})[0]
	}
	return r
}

// Set gives the cell a value to seal, and returns it.
func (c *Cell[T]) Set(v T) *Cell[T] {
	c.V, c.Valid = v, true
	return c
}

func (c *Cell[T]) into() any {
	c.Valid = true
	return &c.V
}

func (c *Cell[T]) null() {
	var zero T
	c.V, c.Valid = zero, false
}

// Held is for statements with placeholders: there a cell is its value.
func (c Cell[T]) Held() (any, bool) { return c.V, c.Valid }

// Value seals, for database/sql. Where plaintext is still the truth it fails: the statement would put a cell into a
// column of plaintext.
func (c Cell[T]) Value() (driver.Value, error) {
	if c.column == nil {
		return nil, fmt.Errorf("the cell is of no column: make it with In: %w", ErrValue)
	}
	if s := c.column.at.Load(); !s.cells() {
		return nil, fmt.Errorf("write %[1]s.%[2]s: plaintext is the truth of the column in phase %[3]q; write {%[2]s = $1} instead: %[4]w", c.column.table, c.column.name, s.phase, ErrStatement)
	}
	return c.BytesValue()
}

// BytesValue seals, for pgx and a parameter of type bytea.
func (c Cell[T]) BytesValue() ([]byte, error) {
	if c.column == nil {
		return nil, fmt.Errorf("the cell is of no column: make it with In: %w", ErrValue)
	}
	client, s := c.column.client, c.column.at.Load()
	scheme, active := client.chain.Active(s.id)
	if !c.Valid && !scheme.SealsNulls() {
		return nil, nil
	}
	if !s.setsCell() {
		return nil, fmt.Errorf("%s.%s has no column of cells: %w", c.column.table, c.column.name, ErrNoScheme)
	}
	m := client.maps.Get().(*pgtype.Map)
	defer client.maps.Put(m)
	if s.form != cell.FormBytes {
		return nil, fmt.Errorf("%[1]s.%[2]s holds cells as %[3]s: write {%[2]s = $1} instead: %[4]w", c.column.table, c.column.name, s.form, ErrStatement)
	}
	_, sealed, _, err := client.values(context.Background(), m, s, c.row(), c)
	if err == nil && sealed == nil && !active { // else the value is one of those that are NULL
		err = ErrNoScheme
	}
	if err != nil {
		return nil, fmt.Errorf("write %s.%s: %w", c.column.table, c.column.name, err)
	}
	if !c.tokened {
		client.tellBare(s)
	}
	return sealed, nil
}

// followed is a key whose pointers are replaced by what they point to.
func followed(key Key) Key {
	values := make(Key, len(key))
	for i, part := range key {
		values[i] = part
		if v := reflect.ValueOf(part); v.Kind() == reflect.Pointer && !v.IsNil() {
			values[i] = v.Elem().Interface()
		}
	}
	return values
}

// ScanBytes opens, for pgx.
func (c *Cell[T]) ScanBytes(value []byte) error {
	if value == nil {
		c.null()
		return nil
	}
	return c.Scan(value)
}

// ScanText is for pgx, which calls it for plaintext of a textual type.
func (c *Cell[T]) ScanText(text pgtype.Text) error {
	if !text.Valid {
		c.null()
		return nil
	}
	return c.Scan(text.String)
}

// Scan takes a cell, or the plaintext of a row where the column has plaintext, for database/sql. What parses as a cell is
// one: if it does not open, that is an error, and never plaintext.
func (c *Cell[T]) Scan(value any) error {
	sealed, ok := value.([]byte)
	if text, is := value.(string); is && (c.column == nil || c.column.at.Load().mayBeText()) {
		sealed, ok = asText([]byte(text))
	} else if found, is := asText(sealed); is {
		sealed = found
	}
	if !ok || c.column == nil {
		return c.plain(value)
	}
	s := c.column.at.Load()
	if _, err := cell.Parse(sealed); err != nil {
		if s.id != 0 && s.plain == "" {
			return &CellError{Table: c.column.table, Column: c.column.name, Err: err}
		}
		return c.plain(value)
	}
	if err := c.open(s, sealed); err != nil {
		return &CellError{Table: c.column.table, Column: c.column.name, Err: err}
	}
	return nil
}

func (c *Cell[T]) plain(value any) error {
	var v sql.Null[T]
	if err := v.Scan(value); err != nil {
		return fmt.Errorf("a %T does not go into a %T: %w", value, c.V, ErrValue)
	}
	c.V, c.Valid = v.V, v.Valid
	return nil
}

func (c *Cell[T]) open(s *standing, sealed []byte) error {
	client := c.column.client
	m := client.maps.Get().(*pgtype.Map)
	defer client.maps.Put(m)
	if h, err := cell.Parse(sealed); err == nil && s.of(h) != h.Column { // the client is behind, or the column is another one
		ctx, cancel := context.WithTimeout(client.end, learnTimeout)
		defer cancel()
		if err := client.look(ctx, nil); err != nil {
			return err
		}
		s = c.column.at.Load()
	}
	wire, format, err := client.openAt(m, s, c.row(), sealed)
	if err != nil {
		return err
	}
	return putKind(s.kind, m, format, wire, c)
}
