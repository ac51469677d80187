package cell_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// sealing returns a text scheme of the same column that seals NULL, too.
func sealing() cell.Scheme {
	s := scheme()
	s.Number, s.Nulls = 4, true
	return s
}

func sealNull(t testing.TB, k *cell.Keyring, s cell.Scheme, a cell.Address) []byte {
	t.Helper()
	c, err := k.SealNull(nil, s, a)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// plainOf is a value of every codec, as it is sealed: the one that is shortest.
func plainOf(c cell.Codec) []byte {
	for n := range 17 {
		if _, err := c.Decode(nil, make([]byte, n), types["int8"]); err == nil {
			return make([]byte, n)
		}
	}
	return nil
}

var codecs = []cell.Codec{cell.CodecBytes, cell.CodecText, cell.CodecOutput, cell.CodecBool, cell.CodecInt, cell.CodecFloat4, cell.CodecFloat8, cell.CodecDate,
	cell.CodecTime, cell.CodecTimeTZ, cell.CodecTimestamp, cell.CodecTimestampTZ, cell.CodecInterval, cell.CodecUUID}

func TestANullOfEveryCodecLooksLikeItsShortestValue(t *testing.T) {
	t.Parallel()
	for _, codec := range codecs {
		for _, padding := range []int{0, 16, 32, 64} {
			s := sealing()
			s.Codec, s.Padding = codec, padding
			if s.Validate() != nil {
				if padding != 0 {
					t.Errorf("%v, padding %d: %v", codec, padding, s.Validate())
				}
				continue
			}
			k := ring(t, s)
			value := plainOf(codec)
			null, full := sealNull(t, k, s, row(99)), seal(t, k, s, row(99), string(value))
			if len(null) != len(full) || len(full) != s.SealedLength(len(value)) || !bytes.Equal(null[:cell.HeaderSize], full[:cell.HeaderSize]) {
				t.Errorf("%v, padding %d: NULL is told: %d bytes and header %x, a value has %d and %x", codec, padding, len(null), null[:cell.HeaderSize], len(full), full[:cell.HeaderSize])
			}
			if got, h, err := k.Open([]byte("before"), row(99), null); got != nil || err != nil || h != s.Header() || !h.Kind {
				t.Errorf("%v, padding %d: NULL opens to %q, %+v, %v", codec, padding, got, h, err)
			}
			if got, _, err := k.Open(nil, row(99), full); got == nil || !bytes.Equal(got, value) || err != nil {
				t.Errorf("%v, padding %d: %x opens to %x, %v", codec, padding, value, got, err)
			}
		}
	}
}

func TestTextWithoutPaddingSealsNoNull(t *testing.T) {
	t.Parallel()
	s := sealing()
	s.Padding = 0
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "told by the length") {
		t.Errorf("its length tells a NULL: %v", err)
	}
	s = deterministic()
	s.Nulls = true
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "same cell") {
		t.Errorf("every NULL has the same cell: %v", err)
	}
}

func TestAnEmptyValueIsNoNull(t *testing.T) {
	t.Parallel()
	s := sealing()
	k := ring(t, s)
	w, err := k.Sealer(s)
	if err != nil {
		t.Fatal(err)
	}
	empty, null := seal(t, k, s, row(99), ""), sealNull(t, k, s, row(99))
	if got, _, err := k.Open(nil, row(99), empty); got == nil || len(got) != 0 || err != nil {
		t.Errorf("an empty value opens to %#v, %v", got, err)
	}
	if got, _, err := k.Open([]byte("before"), row(99), seal(t, k, s, row(99), "value")); string(got) != "beforevalue" || err != nil {
		t.Errorf("behind what is there it opens to %q, %v", got, err)
	}
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"an empty value, taken for itself":  {w.OpenAndCompare(row(99), empty, nil), nil},
		"an empty value, taken for NULL":    {w.OpenAndCompareNull(row(99), empty), cell.ErrDiffers},
		"a value, taken for NULL":           {w.OpenAndCompareNull(row(99), seal(t, k, s, row(99), "x")), cell.ErrDiffers},
		"NULL, taken for itself":            {w.OpenAndCompareNull(row(99), null), nil},
		"NULL, taken for an empty value":    {w.OpenAndCompare(row(99), null, nil), cell.ErrDiffers},
		"NULL, taken for another":           {w.OpenAndCompare(row(99), null, []byte("x")), cell.ErrDiffers},
		"NULL of another row":               {w.OpenAndCompareNull(row(98), null), cell.ErrAuth},
		"NULL of another column":            {w.OpenAndCompareNull(cell.Address{Column: 8, Key: row(99).Key}, null), cell.ErrForeignColumn},
		"no cell":                           {w.OpenAndCompareNull(row(99), null[:20]), cell.ErrNotACell},
		"NULL after a sealer's own":         {compareSealed(w, row(99)), nil},
		"NULL under a scheme that keeps it": {keptNull(t), cell.ErrWire},
	} {
		if !errors.Is(c.err, c.want) || c.want == nil && c.err != nil {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
}

func compareSealed(w *cell.Sealer, a cell.Address) error {
	c, err := w.SealNull(nil, a)
	if err != nil {
		return err
	}
	return w.OpenAndCompareNull(a, c)
}

func keptNull(t testing.TB) error {
	_, err := ring(t, scheme()).SealNull(nil, scheme(), row(99))
	if _, also := sealer(t, scheme()).SealNull(nil, row(99)); !errors.Is(also, cell.ErrWire) {
		t.Errorf("a sealer seals NULL under a scheme that keeps it: %v", also)
	}
	return err
}

// TestOnlyOneByteIsAKind seals what no writer of the format makes: another kind, and a NULL with a body.
func TestOnlyOneByteIsAKind(t *testing.T) {
	t.Parallel()
	for _, codec := range []cell.Codec{cell.CodecText, cell.CodecInt} {
		s := sealing()
		s.Codec = codec
		k := ring(t, s)
		bodies := map[string]bool{ // what is behind the kind, and whether it opens
			"\x01" + strings.Repeat("\x00", 8): codec == cell.CodecInt, "\x01": codec == cell.CodecText,
			"\x01\x01": false, "\x01" + strings.Repeat("\x00", 7) + "\x01": false, "\x02": false, "\x80": false, "\xff12345678": false, "": false,
			"\x00": true, "\x0012345678": true,
		}
		for body, opens := range bodies {
			c := cell.SealBodyForTest(t, k, s, row(99), []byte(body))
			if got, _, err := k.Open(nil, row(99), c); (err == nil) != opens || err != nil && (got != nil || !errors.Is(err, cell.ErrAuth)) {
				t.Errorf("%v, %q: opens to %q, %v", codec, body, got, err)
			}
		}
	}
}

// TestTheKindIsOfTheScheme: a cell with a kind is refused under a scheme without, and the reverse, though both have the
// same number and key.
func TestTheKindIsOfTheScheme(t *testing.T) {
	t.Parallel()
	keeps, seals := scheme(), scheme()
	seals.Nulls = true
	for _, c := range []struct{ made, read cell.Scheme }{{keeps, seals}, {seals, keeps}} {
		sealed := seal(t, ring(t, c.made), c.made, row(99), "value")
		for name, bad := range map[string][]byte{"as it is": sealed, "relabelled": append(c.read.Header().Append(nil), sealed[cell.HeaderSize:]...)} {
			if got, _, err := ring(t, c.read).Open(nil, row(99), bad); !errors.Is(err, cell.ErrAuth) {
				t.Errorf("made with nulls %v, read with %v, %s: %q, %v", c.made.Nulls, c.read.Nulls, name, got, err)
			}
		}
	}
}

func TestNothingBrokenOpensToNull(t *testing.T) {
	t.Parallel()
	for _, codec := range []cell.Codec{cell.CodecText, cell.CodecInt} {
		for _, padding := range []int{0, 16} {
			s := sealing()
			if s.Codec, s.Padding = codec, padding; s.Validate() != nil {
				continue
			}
			k := ring(t, s)
			w, err := k.Sealer(s)
			if err != nil {
				t.Fatal(err)
			}
			broken(sealNull(t, k, s, row(99)), func(how string, bad []byte) {
				if got, _, err := k.Open(nil, row(99), bad); err == nil {
					t.Errorf("%v, padding %d, %s: opens to %q", codec, padding, how, got)
				}
				if w.OpenAndCompareNull(row(99), bad) == nil {
					t.Errorf("%v, padding %d, %s: compares as NULL", codec, padding, how)
				}
			})
			for _, at := range []cell.Address{row(98), {Column: 7}, {Column: 8, Key: row(99).Key}} {
				if _, _, err := k.Open(nil, at, sealNull(t, k, s, row(99))); err == nil {
					t.Errorf("%v, padding %d: NULL opens at %+v", codec, padding, at)
				}
			}
		}
	}
}

// FuzzKind: whatever stands behind a kind comes back, or is refused; no two bodies are the same value.
func FuzzKind(f *testing.F) {
	for i, seed := range []string{"", "\x00", "\x00value", "\x01", "\x01\x00\x00\x00\x00\x00\x00\x00\x00", "\x02", "\x01\x80"} {
		f.Add(uint8(i), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		s := sealing()
		s.Codec = codecs[int(which)%len(codecs)]
		k := ring(t, s)
		got, _, err := k.Open(nil, row(99), cell.SealBodyForTest(t, k, s, row(99), body))
		switch {
		case err != nil && (got != nil || !errors.Is(err, cell.ErrAuth)):
			t.Fatalf("%x: %x, %v", body, got, err)
		case err == nil && got == nil && string(body) != fmt.Sprintf("\x01%s", strings.Repeat("\x00", s.Codec.WidthForTest())):
			t.Fatalf("%x is taken for NULL", body)
		case err == nil && got != nil && !bytes.Equal(append([]byte{0}, got...), body):
			t.Fatalf("%x opens to %x", body, got)
		}
	})
}
