package cell

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// place is all that the associated data of a cell are made of.
type place struct {
	registry [16]byte
	header   Header
	key      []byte
}

// placeOf makes a place of arbitrary bytes, so that each bit of them matters, or none does for a place without a row.
func placeOf(registry, fields, key []byte) place {
	var p place
	copy(p.registry[:], registry)
	var f [16]byte
	copy(f[:], fields)
	p.header = Header{
		Column: binary.BigEndian.Uint32(f[:]), Scheme: binary.BigEndian.Uint16(f[4:]), Suite: Suite(f[6]), Codec: Codec(f[7]), KeyID: binary.BigEndian.Uint32(f[8:]),
		RowBound: f[12]&1 != 0, Padded: f[12]&2 != 0, Kind: f[12]&4 != 0,
	}
	if p.header.RowBound {
		p.key = appendPart(AppendKeyCount(nil, 1), tagText, key)
	}
	return p
}

func (p place) aad() []byte {
	return appendAAD(nil, p.registry, p.header.Append(nil), p.header.RowBound, p.key)
}

func (p place) same(q place) bool {
	return p.registry == q.registry && p.header == q.header && bytes.Equal(p.key, q.key)
}

// FuzzAssociatedData: two places have the same associated data exactly when they are the same place, and no associated
// data of a wrapped key are those of a cell.
func FuzzAssociatedData(f *testing.F) {
	f.Add([]byte("registry"), []byte("\x00\x00\x00\x07\x00\x02\x01\x20\x00\x00\x00\x2a\x01"), []byte("a"), []byte("registry"), []byte("\x00\x00\x00\x07\x00\x02\x01\x20\x00\x00\x00\x2a\x01"), []byte("b"))
	f.Add([]byte("r"), []byte("\x00\x00\x00\x07"), []byte("a"), []byte("r"), []byte("\x00\x00\x00\x07"), []byte("b"))
	f.Add([]byte{}, []byte{}, []byte{}, []byte{0}, []byte{0}, []byte{0})
	for i := range 13 { // one field differs
		fields, other := []byte("\x00\x00\x00\x07\x00\x02\x01\x20\x00\x00\x00\x2a\x01"), []byte("\x00\x00\x00\x07\x00\x02\x01\x20\x00\x00\x00\x2a\x01")
		other[i] ^= 2
		f.Add([]byte("registry"), fields, []byte("a"), []byte("registry"), other, []byte("a"))
	}
	f.Add([]byte("registry"), []byte("\x07"), []byte("a"), []byte("registrx"), []byte("\x07"), []byte("a"))
	f.Fuzz(func(t *testing.T, r1, f1, k1, r2, f2, k2 []byte) {
		one, two := placeOf(r1, f1, k1), placeOf(r2, f2, k2)
		if bytes.Equal(one.aad(), two.aad()) != one.same(two) {
			t.Fatalf("%+v has %x, %+v has %x", one, one.aad(), two, two.aad())
		}
		a := DEKID{Registry: one.registry, Column: one.header.Column, KeyID: one.header.KeyID, Suite: one.header.Suite}
		b := DEKID{Registry: two.registry, Column: two.header.Column, KeyID: two.header.KeyID, Suite: two.header.Suite}
		if bytes.Equal(a.aad(), b.aad()) != (a == b) || bytes.Equal(a.aad(), one.aad()) || bytes.Equal(a.aad(), two.aad()) {
			t.Fatalf("%+v has %x, %+v has %x", a, a.aad(), b, b.aad())
		}
	})
}
