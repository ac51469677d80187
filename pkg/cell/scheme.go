package cell

import "fmt"

// Scheme is one numbered configuration of one column. Once a cell carries it, it never
// changes; whoever wants another suite, codec, binding, padding or key makes the next number.
// The zero Scheme is invalid. Schemes compare with ==.
type Scheme struct {
	Column   uint32 // column id, from 1
	Number   uint16 // from 1, only grows
	Suite    Suite
	Codec    Codec
	RowBound bool   // a cell opens only in the row it was sealed for, or, with Columns, in rows with those values
	Columns  string // the columns that it is bound to instead of the row's key, as BoundTo writes them; "": the key
	Padding  int    // block in bytes: 0, 16, 32 or 64
	Nulls    Nulls  // NULL is sealed, too: each cell says inside whether it holds one
	KeyID    uint32 // the DEK that seals, from 1
}

// Validate names the first field that is not of the format.
func (s Scheme) Validate() error {
	var what string
	switch {
	case s.Column == 0:
		what = "column id must not be 0"
	case s.Number == 0:
		what = "scheme number must not be 0"
	case s.Suite.Overhead() == 0:
		what = fmt.Sprintf("suite %d is unknown (accepted: 1, 2)", uint8(s.Suite))
	case s.Suite.Deterministic() && s.RowBound:
		what = "a deterministic suite cannot bind cells to rows: equal values would make different cells"
	case s.Columns != "" && (!s.RowBound || boundNumbers(s.Columns) == nil):
		what = fmt.Sprintf("bound columns are %q (want numbers and types, as in 3i,1s, each once)", s.Columns)
	case !s.Codec.known():
		what = fmt.Sprintf("codec %#02x is unknown", uint8(s.Codec))
	case s.Padding != 0 && s.Padding != 16 && s.Padding != 32 && s.Padding != 64:
		what = fmt.Sprintf("padding %d (accepted: 0, 16, 32, 64)", s.Padding)
	case s.SealsNulls() && s.Suite.Deterministic():
		what = "a deterministic suite cannot seal NULL: every NULL would make the same cell, and so be told"
	case s.SealsNulls() && s.Padding == 0 && s.Codec.width() == 0:
		what = "NULL that is sealed without padding is told by the length of its cell (take padding 16, 32 or 64)"
	case s.KeyID == 0:
		what = "key id must not be 0"
	}
	if what != "" {
		return fmt.Errorf("validate scheme %d of column %d: %s", s.Number, s.Column, what)
	}
	return nil
}

// Header returns the header that every cell of the scheme carries.
func (s Scheme) Header() Header {
	return Header{
		Column: s.Column, Scheme: s.Number, Suite: s.Suite,
		RowBound: s.RowBound, Padded: s.Padding > 0, Kind: s.SealsNulls(),
		Codec: s.Codec, KeyID: s.KeyID,
	}
}

// SealedLength returns how many bytes a cell of the scheme has for n bytes of plaintext.
func (s Scheme) SealedLength(n int) int {
	n += s.kindSize()
	if s.Padding > 0 {
		n += s.Padding - n%s.Padding
	}
	return s.Suite.Overhead() + n
}
