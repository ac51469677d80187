package cell_test

import (
	"bytes"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// shape returns a cell-shaped sequence of bytes with the header of scheme() and n bytes of
// ciphertext, changed at one place.
func shape(n, at int, b byte) []byte {
	s := scheme()
	s.Padding = 0
	c := append(s.Header().Append(nil), make([]byte, cell.Overhead-cell.HeaderSize+n)...)
	if at >= 0 {
		c[at] = b
	}
	return c
}

func TestParseRefusesWhatNoWriterMakes(t *testing.T) {
	t.Parallel()
	if _, err := cell.Parse(shape(0, -1, 0)); err != nil {
		t.Fatalf("the least cell: %v", err)
	}
	zero := func(from, to int) []byte {
		c := shape(0, -1, 0)
		clear(c[from:to])
		return c
	}
	for name, c := range map[string][]byte{
		"nothing":                nil,
		"one byte short":         shape(0, -1, 0)[:cell.Overhead-1],
		"first magic":            shape(0, 0, 0xf4),
		"format 2":               shape(0, 1, 0xc2),
		"column 0":               zero(2, 6),
		"scheme 0":               zero(6, 8),
		"suite 0":                shape(0, 8, 0),
		"suite 81":               shape(0, 8, 0x81),
		"one byte short of SIV":  shape(0, 8, 2)[:31],
		"SIV padded, but empty":  padded(shape(0, 8, 2)[:32]),
		"SIV padded to 17":       padded(shape(0, 8, 2)[:32+17]),
		"suite 3":                shape(0, 8, 3),
		"unknown flag":           shape(0, 9, 8),
		"high flag":              shape(0, 9, 0x81),
		"codec 3":                shape(0, 10, 3),
		"codec 0f":               shape(0, 10, 0x0f),
		"codec 1b":               shape(0, 10, 0x1b),
		"reserved byte":          shape(0, 11, 1),
		"key id 0":               zero(12, 16),
		"padded, but empty":      shape(0, 9, 3),
		"kind, but empty":        shape(0, 9, 5),
		"padded to 17":           shape(17, 9, 3),
		"text":                   []byte("cf1.9cEAAAAHAAIB and then some more text to make it long enough"),
		"hexadecimal of a cell":  []byte(`\xf5c1000000070002010101000000002a4142434445464748494a4b4c4d4e4f5051525354555657`),
		"a cell behind one byte": append([]byte{0}, shape(0, -1, 0)...),
	} {
		if h, err := cell.Parse(c); !errors.Is(err, cell.ErrNotACell) || h != (cell.Header{}) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		if _, _, err := ring(t, scheme()).Open(nil, row(1), c); !errors.Is(err, cell.ErrNotACell) {
			t.Errorf("%s: open: %v", name, err)
		}
	}
}

func padded(c []byte) []byte {
	c[9] = 2
	return c
}

func TestTheLeastCellOfEverySuiteParses(t *testing.T) {
	t.Parallel()
	for suite, n := range map[cell.Suite]int{cell.SuiteXAES256GCM: 56, cell.SuiteAES256SIV: 32} {
		if suite.Overhead() != n || cell.MinLength > n {
			t.Errorf("%v adds %d bytes, want %d", suite, suite.Overhead(), n)
		}
		for extra := range 3 {
			if h, err := cell.Parse(shape(2, 8, byte(suite))[:n+extra]); err != nil || h.Suite != suite {
				t.Errorf("%v of %d bytes: %+v, %v", suite, n+extra, h, err)
			}
		}
	}
	if n := cell.SuiteBlindIndex.Overhead(); n != 0 {
		t.Errorf("no cell has the suite of a blind index, but it adds %d bytes", n)
	}
}

func TestThePrefixIsTheFrontOfEveryCell(t *testing.T) {
	t.Parallel()
	s := scheme()
	s.Column = 0xfffefdfc
	a := row(1)
	a.Column = s.Column
	c := seal(t, ring(t, s), s, a, "value")
	p := cell.Prefix(s.Column)
	if !bytes.HasPrefix(c, p[:]) || !bytes.Equal(p[:], []byte{0xf5, 0xc1, 0xff, 0xfe, 0xfd, 0xfc}) {
		t.Errorf("prefix %x, cell %x", p, c[:16])
	}
}

// TestNoTextIsACell holds the reason for the magic: its bytes are in no UTF-8 text.
func TestNoTextIsACell(t *testing.T) {
	t.Parallel()
	c := shape(100, -1, 0)
	for i := range 2 {
		if utf8.Valid(c[i : i+1]) {
			t.Errorf("byte %d of the magic is UTF-8", i)
		}
	}
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if bytes.ContainsAny(utf8.AppendRune(nil, r), "\xf5\xc1") && utf8.ValidRune(r) {
			b := utf8.AppendRune(nil, r)
			if bytes.IndexByte(b, 0xf5) >= 0 || bytes.IndexByte(b, 0xc1) >= 0 {
				t.Fatalf("%U holds a byte of the magic", r)
			}
		}
	}
}

// FuzzParse: parsing is total and canonical; arbitrary bytes never open.
func FuzzParse(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(shape(0, -1, 0))
	f.Add(shape(32, 9, 3))
	f.Add(shape(0, 9, 7))
	f.Add(shape(0, 8, 2)[:32])
	f.Add(shape(16, 9, 7))
	f.Add(sealNull(f, ring(f, sealing()), sealing(), row(1)))
	for _, raw := range readKnown(f).Cells {
		f.Add(unhex(f, strict[knownCell](f, raw).Cell))
	}
	s := scheme()
	k := ring(f, s, deterministic(), sealing())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := cell.Parse(b)
		if (err == nil) != (h != cell.Header{}) {
			t.Fatalf("%+v, %v", h, err)
		}
		if err == nil && !bytes.Equal(h.Append(nil), b[:cell.HeaderSize]) {
			t.Fatalf("%x parses, but is written %x", b[:cell.HeaderSize], h.Append(nil))
		}
		if got, _, err := k.Open(nil, row(-1), b); err == nil || got != nil {
			t.Fatalf("%x opens", b)
		}
	})
}
