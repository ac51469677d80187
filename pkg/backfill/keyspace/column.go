package keyspace

import (
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Column is one column of the key.
type Column struct {
	Name      string
	OID       uint32 // base type
	ArrayOID  uint32 // of the arrays that list keys
	Cast      string // what brings an element of them to the base type: "", or a cast where they are text
	Operators pg.Operators
	Binary    bool // wire format it is read and sent in
}

// operator is the key's own operator for op: of its index's operator class, qualified.
func (k Column) operator(op string) pg.Operator {
	switch op {
	case "<":
		return k.Operators.Less
	case "<=":
		return k.Operators.LessEqual
	case ">":
		return k.Operators.Greater
	case ">=":
		return k.Operators.GreaterEqual
	}
	return k.Operators.Equal
}

// Compare is "the column of alias t stands in relation op to param", by the key's own operator.
func (k Column) Compare(op, param string) string {
	return fmt.Sprintf("t.%s %s %s", pg.Ident(k.Name), k.operator(op).SQL(), param)
}

// Format is the protocol's format code of a key column.
func (k Column) Format() int16 { return pg.Format(k.Binary) }

// Columns resolves the key's columns, and how they enter a cell's address. The names are in the order of the key's
// index: the same columns in another order are another key.
func Columns(relation pg.Relation, names []string) ([]Column, *cell.KeyEncoder, error) {
	at := slices.IndexFunc(relation.Keys, func(k pg.Key) bool { return k.Usable() && slices.Equal(k.Names(), names) })
	if at < 0 {
		return nil, nil, fmt.Errorf("the key of %s: %w", relation.Table(), ErrChanged)
	}
	columns := make([]Column, len(names))
	types := make([]cell.TypeInfo, len(names))
	for i, k := range relation.Keys[at].Columns {
		column, _ := relation.Column(k.Name)
		types[i] = TypeInfo(column.Base)
		columns[i] = Column{Name: k.Name, OID: column.Base.OID, ArrayOID: column.Base.ArrayOID, Operators: k.Operators}
		if column.Base.ArrayOID == 0 || column.Base.Kind == "c" { // unnest takes arrays of arrays, and of records, to pieces
			columns[i].ArrayOID, columns[i].Cast = pgtype.TextArrayOID, "::"+column.Base.SQL
		}
	}
	encoder, err := cell.NewKeyEncoder(types)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key of %s: %w", relation.Table(), err)
	}
	for i := range columns {
		columns[i].Binary = encoder.Wire(i) == cell.Binary
	}
	return columns, encoder, nil
}

// ErrChanged says that a table is no longer what it was when the job over it began: its key, a column, its type, the
// constraint or the capture trigger changed. Nothing of the chunk that met it was written.
var ErrChanged = errors.New("the table changed since the job began")

// TypeInfo says to package cell what package pg says of a type.
func TypeInfo(t pg.Type) cell.TypeInfo {
	info := cell.TypeInfo{OID: t.OID, Name: t.Name, Kind: t.Kind[0], Category: t.Category[0]}
	for _, part := range t.Parts {
		info.Parts = append(info.Parts, TypeInfo(part))
	}
	return info
}
