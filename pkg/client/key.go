package client

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Key is the value of a row's key, one element per column of it, in the key's order.
type Key []any

// rowKey is how the key of a table enters the addresses of its cells.
type rowKey struct {
	parts   []keyPart
	encoder *cell.KeyEncoder
}

type keyPart struct {
	name  string
	num   int16
	kind  kind
	equal string // the operator, as SQL
}

func newRowKey(relation pg.Relation, key pg.Key) (*rowKey, error) {
	k := &rowKey{parts: make([]keyPart, len(key.Columns))}
	types := make([]cell.TypeInfo, len(key.Columns))
	for i, part := range key.Columns {
		column, _ := relation.Column(part.Name)
		types[i] = typeInfo(column.Base)
		k.parts[i] = keyPart{name: part.Name, num: part.Attnum, kind: kindOf(column.Base, column.BaseTypmod, column.Type), equal: part.Operators.Equal.SQL()}
	}
	var err error
	k.encoder, err = cell.NewKeyEncoder(types)
	if err != nil {
		return nil, fmt.Errorf("encode the key of %s: %w", relation.Table(), err)
	}
	return k, nil
}

// encode makes an address of the application's values.
func (k *rowKey) encode(m *pgtype.Map, values Key) ([]byte, error) {
	if k == nil {
		return nil, fmt.Errorf("the table has no key to tell rows apart: %w", ErrNoKey)
	}
	if len(values) != len(k.parts) {
		return nil, fmt.Errorf("%d values for a key of %d columns: %w", len(values), len(k.parts), ErrNoKey)
	}
	wire := make([][]byte, len(values))
	for i, v := range values {
		var err error
		if wire[i], err = k.parts[i].kind.inAddress(m, v, k.encoder.Wire(i)); err != nil {
			return nil, fmt.Errorf("key column %s: %w", k.parts[i].name, err)
		}
		if wire[i] == nil {
			return nil, fmt.Errorf("key column %s is NULL: %w", k.parts[i].name, ErrNoKey)
		}
	}
	return k.encoder.Append(nil, wire)
}

// respell turns a key column's value as it came over the wire into the format that addresses are made of.
func (p keyPart) respell(m *pgtype.Map, have, want int16, raw []byte) ([]byte, error) {
	if have == want && p.kind.codec != cell.CodecOutput || raw == nil || p.kind.textual() {
		return raw, nil
	}
	v, err := p.kind.value(m, have, raw)
	if err != nil {
		return nil, fmt.Errorf("key column %s: %w", p.name, err)
	}
	return p.kind.inAddress(m, v, cell.Format(want))
}

// inAddress is a value of a key's column as it enters addresses.
func (k kind) inAddress(m *pgtype.Map, v any, format cell.Format) ([]byte, error) {
	if format == cell.Text {
		return k.spell(m, v)
	}
	return k.wire(m, v, format)
}
