package cell

import (
	"bytes"
	"fmt"
	"math"
)

// KeyEncoder encodes the primary keys of one table for Address.Key. It is built once, never
// changes and is safe for concurrent use.
type KeyEncoder struct {
	columns []keyColumn
}

type keyColumn struct {
	tag   byte
	blank bool   // char(n): trailing blanks do not count
	name  string // of the type, for errors
}

// NewKeyEncoder takes the types of the key columns in key order. It refuses types whose
// values name database objects or depend on settings.
func NewKeyEncoder(types []TypeInfo) (*KeyEncoder, error) {
	if len(types) == 0 || len(types) > math.MaxUint16 {
		return nil, fmt.Errorf("make key encoder: %d key columns", len(types))
	}
	e := &KeyEncoder{columns: make([]keyColumn, len(types))}
	for i, t := range types {
		// An oid is a plain number within the row, even if it means nothing elsewhere.
		if why := refusal(t); why != "" && t.OID != oidOID {
			return nil, fmt.Errorf("make key encoder: key column %d of type %s: %s", i+1, t.Name, why)
		}
		e.columns[i] = keyColumn{tag: keyTag(t), blank: t.OID == oidBPChar, name: t.Name}
	}
	return e, nil
}

func keyTag(t TypeInfo) byte {
	switch t.OID {
	case oidInt2, oidInt4, oidInt8:
		return tagInt
	case oidUUID:
		return tagUUID
	case oidText, oidVarchar, oidBPChar, oidName:
		return tagText
	case oidBytea:
		return tagBytes
	case oidDate:
		return tagDate
	case oidTimestamp, oidTimestampTZ:
		return tagTimestamp
	case oidNumeric:
		return tagNumeric
	}
	if isCitext(t) {
		return tagText
	}
	return tagOther
}

// Columns returns how many key columns there are.
func (e *KeyEncoder) Columns() int { return len(e.columns) }

// Wire returns the format in which key column i (from 0) must be read for Append.
func (e *KeyEncoder) Wire(i int) Format {
	switch e.columns[i].tag {
	case tagText, tagNumeric, tagOther:
		return Text
	}
	return Binary
}

// Append appends one row's whole encoded key to dst. wire holds the key columns' values as
// Postgres sent them, each in its Wire format; a NULL (nil) is refused.
func (e *KeyEncoder) Append(dst []byte, wire [][]byte) ([]byte, error) {
	if len(wire) != len(e.columns) {
		return nil, fmt.Errorf("encode key: %d values for %d key columns", len(wire), len(e.columns))
	}
	dst = AppendKeyCount(dst, len(wire))
	for i := range wire {
		var err error
		if dst, err = e.columns[i].append(dst, wire[i]); err != nil {
			return nil, fmt.Errorf("encode key column %d of type %s: %w", i+1, e.columns[i].name, err)
		}
	}
	return dst, nil
}

func (c keyColumn) append(dst, wire []byte) ([]byte, error) {
	if wire == nil {
		return nil, fmt.Errorf("a NULL: %w", ErrWire)
	}
	switch c.tag {
	case tagInt:
		v, err := readInt(wire)
		return AppendKeyInt(dst, v), err
	case tagNumeric:
		return AppendKeyNumeric(dst, wire)
	case tagText:
		if c.blank {
			wire = bytes.TrimRight(wire, " ")
		}
	default:
		if n := keyWidth(c.tag); n != 0 && len(wire) != n {
			return nil, fmt.Errorf("%d bytes, want %d: %w", len(wire), n, ErrWire)
		}
	}
	return appendPart(dst, c.tag, wire), nil
}

// keyWidth returns the length of a fixed-width part, or 0.
func keyWidth(tag byte) int {
	switch tag {
	case tagUUID:
		return 16
	case tagDate:
		return 4
	case tagTimestamp:
		return 8
	}
	return 0
}
