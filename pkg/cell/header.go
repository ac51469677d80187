package cell

import (
	"encoding/binary"
	"fmt"
)

// The first two bytes of every cell: magic and format in one. Neither byte ever occurs
// in valid UTF-8, so no text value parses as a cell.
const (
	magic0 = 0xF5
	magic1 = 0xC1 // format 1
)

const (
	flagRowBound = 1 << 0 // the associated data names the row
	flagPadded   = 1 << 1 // the plaintext carries ISO 7816-4 padding
	flagKind     = 1 << 2 // a kind byte precedes the plaintext: see kind.go
	flagsKnown   = flagRowBound | flagPadded | flagKind
)

const paddingUnit = 16 // every allowed padding is a multiple of it

// Header is the clear, authenticated front of a cell. Equal headers compare with ==.
type Header struct {
	Column   uint32 // column id, from 1
	Scheme   uint16 // scheme number within the column, from 1
	Suite    Suite
	RowBound bool
	Padded   bool
	Kind     bool // a kind byte inside says whether the cell holds NULL
	Codec    Codec
	KeyID    uint32 // which DEK, from 1
}

// Append writes the 16 header bytes behind dst.
func (h Header) Append(dst []byte) []byte {
	dst = append(dst, magic0, magic1)
	dst = binary.BigEndian.AppendUint32(dst, h.Column)
	dst = binary.BigEndian.AppendUint16(dst, h.Scheme)
	dst = append(dst, byte(h.Suite), h.flags(), byte(h.Codec), 0)
	return binary.BigEndian.AppendUint32(dst, h.KeyID)
}

func (h Header) flags() byte {
	var f byte
	if h.RowBound {
		f |= flagRowBound
	}
	if h.Padded {
		f |= flagPadded
	}
	if h.Kind {
		f |= flagKind
	}
	return f
}

// Prefix returns the first six bytes of every cell of a column: magic, format and column id.
func Prefix(column uint32) [PrefixSize]byte {
	p := [PrefixSize]byte{magic0, magic1}
	binary.BigEndian.PutUint32(p[2:], column)
	return p
}

// Parse reads the header of a cell without any key. It is total and canonical: whatever it
// accepts, Append writes back to the same bytes. It proves nothing; only Open does.
// Every failure is an ErrNotACell.
func Parse(cell []byte) (Header, error) {
	if len(cell) < HeaderSize {
		return Header{}, fmt.Errorf("parse cell of %d bytes: %w", len(cell), ErrNotACell)
	}
	if cell[0] != magic0 || cell[1] != magic1 {
		return Header{}, fmt.Errorf("parse cell: no magic: %w", ErrNotACell)
	}
	h := Header{
		Column:   binary.BigEndian.Uint32(cell[2:]),
		Scheme:   binary.BigEndian.Uint16(cell[6:]),
		Suite:    Suite(cell[8]),
		RowBound: cell[9]&flagRowBound != 0,
		Padded:   cell[9]&flagPadded != 0,
		Kind:     cell[9]&flagKind != 0,
		Codec:    Codec(cell[10]),
		KeyID:    binary.BigEndian.Uint32(cell[12:]),
	}
	if what := h.wrong(cell); what != "" {
		return Header{}, fmt.Errorf("parse cell: %s: %w", what, ErrNotACell)
	}
	return h, nil
}

// wrong names what no writer of this format produces, or returns "".
func (h Header) wrong(cell []byte) string {
	padded := len(cell) - h.Suite.Overhead()
	switch {
	case h.Column == 0:
		return "column id 0"
	case h.Scheme == 0:
		return "scheme 0"
	case h.Suite.Overhead() == 0:
		return "unknown suite"
	case padded < 0:
		return "too short for its suite"
	case cell[9]&^flagsKnown != 0:
		return "unknown flag"
	case !h.Codec.known():
		return "unknown codec"
	case cell[11] != 0:
		return "reserved byte set"
	case h.KeyID == 0:
		return "key id 0"
	case h.Kind && padded == 0:
		return "too short for its kind"
	case h.Padded && (padded == 0 || padded%paddingUnit != 0):
		return "length does not fit the padding"
	}
	return ""
}
