// Package place finds the addresses of a row's cells among what an application gives, and what it reads.
//
// Words: a place are the columns of a row whose values a cell is bound to: those of its key, or those that a scheme names.
// A field is a column of a query's result.
package place

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/kind"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Columns are the columns of a place, in its order. Nil are those of a table without a key.
type Columns struct {
	Parts   []Part
	Label   string // of the schemes that are bound to them; "": they are the row's key
	Why     error  // what keeps cells from being bound to them; nil: nothing does
	encoder *cell.KeyEncoder
}

// Part is one of them.
type Part struct {
	Name  string
	Num   int16
	Kind  kind.Kind
	equal string // the operator, as SQL; of a key
}

// OfKey is the place that a key of the table is.
func OfKey(relation pg.Relation, key pg.Key) (*Columns, error) {
	c := &Columns{Parts: make([]Part, len(key.Columns))}
	types := make([]cell.TypeInfo, len(key.Columns))
	for i, part := range key.Columns {
		column, _ := relation.Column(part.Name)
		c.Parts[i] = partOf(column)
		c.Parts[i].equal, types[i] = part.Operators.Equal.SQL(), c.Parts[i].Kind.Info
	}
	var err error
	if c.encoder, err = cell.NewKeyEncoder(types); err != nil {
		return nil, fmt.Errorf("encode the key of %s: %w", relation.Table(), err)
	}
	return c, nil
}

// OfBound is the place that schemes with this label are bound to. One whose columns are not what they were is there, and
// says so as soon as it is used.
func OfBound(relation pg.Relation, label string) *Columns {
	b, err := bound.Of(relation, label)
	c := &Columns{Label: label, Why: err, encoder: b.Keys}
	for _, column := range b.Columns {
		c.Parts = append(c.Parts, partOf(column))
	}
	return c
}

func partOf(c pg.Column) Part {
	return Part{Name: c.Name, Num: c.Attnum, Kind: kind.Of(c.Base, c.BaseTypmod, c.Type)}
}

// Usable is nil if cells can be bound to the place.
func (c *Columns) Usable() error {
	switch {
	case c == nil:
		return fmt.Errorf("the table has no key to tell rows apart: %w", cell.ErrNoKey)
	case c.Why != nil:
		return fmt.Errorf("%w: %w", c.Why, cell.ErrNoColumns)
	}
	return nil
}

// word is what a column of the place is called in errors, and what it means that one is missing.
func (c *Columns) word() (string, error) {
	if c.Label != "" {
		return "bound column", cell.ErrNoColumns
	}
	return "key column", cell.ErrNoKey
}

// Names are those of its columns.
func (c *Columns) Names() []string {
	names := make([]string, len(c.Parts))
	for i, part := range c.Parts {
		names[i] = part.Name
	}
	return names
}

// Encode makes the part of an address of the application's values.
func (c *Columns) Encode(m *pgtype.Map, values []any) ([]byte, error) {
	if err := c.Usable(); err != nil {
		return nil, err
	}
	word, missing := c.word()
	if len(values) != len(c.Parts) {
		return nil, fmt.Errorf("%d values for a key of %d columns: %w", len(values), len(c.Parts), missing)
	}
	wire := make([][]byte, len(values))
	for i, v := range values {
		var err error
		if wire[i], err = inAddress(c.Parts[i].Kind, m, v, c.encoder.Wire(i)); err != nil {
			return nil, fmt.Errorf("%s %s: %w", word, c.Parts[i].Name, err)
		}
		if wire[i] == nil {
			return nil, fmt.Errorf("%s %s is NULL: %w", word, c.Parts[i].Name, missing)
		}
	}
	return c.encoder.Append(nil, wire)
}

// Fields are the fields that hold the place of the cell in the field at: for each of its columns the nearest before the
// cell, or else behind it; -1 where there is none. In rows of a view or a partition they go by their names.
func (c *Columns) Fields(relid uint32, fields []pgconn.FieldDescription, at int) []int {
	if c == nil {
		return nil
	}
	same := func(fd pgconn.FieldDescription, part Part) bool {
		own := fd.TableOID == relid && int16(fd.TableAttributeNumber) == part.Num
		return own || fields[at].TableOID != relid && fd.TableOID == fields[at].TableOID && fd.Name == part.Name
	}
	found := make([]int, len(c.Parts))
	for k, part := range c.Parts {
		found[k] = -1
		for i, fd := range fields {
			if same(fd, part) && (i < at || found[k] < 0) {
				found[k] = i
			}
		}
	}
	return found
}

// Read encodes the place of a row's cell from the fields that hold it, behind dst.
func (c *Columns) Read(dst []byte, rows pgx.Rows, at []int) ([]byte, error) {
	if err := c.Usable(); err != nil {
		return nil, err
	}
	fields, raw := rows.FieldDescriptions(), rows.RawValues()
	word, missing := c.word()
	parts := make([][]byte, 0, len(at))
	for k, i := range at {
		part := c.Parts[k]
		if i < 0 {
			return nil, fmt.Errorf("select the %s %s too: %w", word, part.Name, missing)
		}
		wire, err := part.respell(rows.TypeMap(), fields[i].Format, int16(c.encoder.Wire(k)), raw[i])
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", word, part.Name, err)
		}
		parts = append(parts, wire)
	}
	return c.encoder.Append(dst, parts)
}

// Values are what Read encodes, as arguments for pgx that Postgres takes for the same.
func (c *Columns) Values(rows pgx.Rows, at []int) ([]any, error) {
	fields, raw := rows.FieldDescriptions(), rows.RawValues()
	values := make([]any, len(at))
	for k, i := range at {
		var err error
		if values[k], err = c.Parts[k].Kind.Value(rows.TypeMap(), fields[i].Format, raw[i]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// From are the fields that follow one another from n on.
func (c *Columns) From(n int) []int {
	at := make([]int, len(c.Parts))
	for i := range at {
		at[i] = n + i
	}
	return at
}

// Matches is the condition that a row has the key of the parameters from $first on.
func (c *Columns) Matches(first int) string {
	conditions := make([]string, len(c.Parts))
	for i, part := range c.Parts {
		conditions[i] = fmt.Sprintf("%s %s $%d", pg.Ident(part.Name), part.equal, first+i)
	}
	return strings.Join(conditions, " AND ")
}

// respell turns a column's value as it came over the wire into the format that addresses are made of.
func (p Part) respell(m *pgtype.Map, have, want int16, raw []byte) ([]byte, error) {
	if raw == nil || p.Kind.Textual() || have == want && (want == int16(cell.Binary) || p.Kind.Codec == cell.CodecBool) {
		return raw, nil // any other text may be as this session prints it
	}
	v, err := p.Kind.Value(m, have, raw)
	if err != nil {
		return nil, err
	}
	return inAddress(p.Kind, m, v, cell.Format(want))
}

// inAddress is a value as it enters addresses.
func inAddress(k kind.Kind, m *pgtype.Map, v any, format cell.Format) ([]byte, error) {
	if format == cell.Text {
		return k.Spell(m, v)
	}
	return k.Wire(m, v, format)
}
