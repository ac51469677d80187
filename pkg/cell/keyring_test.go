package cell_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

func TestWhatIsSealedOpens(t *testing.T) {
	t.Parallel()
	values := []string{"", "a", "alice@example.com", "0123456789abcdef", "x\x80\x00\x00", strings.Repeat("\x00", 16), strings.Repeat("long ", 5000)}
	for _, padding := range []int{0, 16, 32, 64} {
		for _, bound := range []bool{true, false} {
			s := scheme()
			s.Padding, s.RowBound = padding, bound
			k := ring(t, s)
			for _, v := range values {
				c := seal(t, k, s, row(99), v)
				if len(c) != s.SealedLength(len(v)) {
					t.Errorf("padding %d: %d bytes seal to %d, want %d", padding, len(v), len(c), s.SealedLength(len(v)))
				}
				if len(v) > 4 && bytes.Contains(c, []byte(v)) {
					t.Errorf("the cell shows its value")
				}
				got, h, err := k.Open(nil, row(99), c)
				if err != nil || string(got) != v || got == nil || h != s.Header() {
					t.Errorf("padding %d, bound %v: %d bytes came back as %d, header %+v, %v", padding, bound, len(v), len(got), h, err)
				}
			}
		}
	}
}

func TestSealAndOpenAppend(t *testing.T) {
	t.Parallel()
	s := scheme()
	k := ring(t, s)
	c, err := k.Seal([]byte("before"), s, row(1), []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := bytes.CutPrefix(c, []byte("before"))
	if !ok {
		t.Fatal("what stood in dst is gone")
	}
	got, _, err := k.Open([]byte("before"), row(1), rest)
	if err != nil || string(got) != "beforevalue" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestNoTwoCellsAreEqual(t *testing.T) {
	t.Parallel()
	s := scheme()
	k := ring(t, s)
	salts := map[string]bool{}
	for range 1000 {
		c := seal(t, k, s, row(1), "same")
		salts[string(c[cell.HeaderSize:cell.HeaderSize+cell.SaltSize])] = true
	}
	if len(salts) != 1000 {
		t.Fatalf("%d salts for 1000 cells", len(salts))
	}
}

func TestEveryAlteredBitIsRefused(t *testing.T) {
	t.Parallel()
	for _, padding := range []int{0, 16} {
		s := scheme()
		s.Padding = padding
		k := ring(t, s)
		c := seal(t, k, s, row(99), "alice@example.com")
		for i := range len(c) * 8 {
			bad := bytes.Clone(c)
			bad[i/8] ^= 1 << (i % 8)
			got, _, err := k.Open(nil, row(99), bad)
			if err == nil || got != nil {
				t.Fatalf("bit %d of byte %d altered: opened", i%8, i/8)
			}
			if i/8 >= cell.HeaderSize && !errors.Is(err, cell.ErrAuth) {
				t.Fatalf("byte %d altered: %v", i/8, err)
			}
		}
	}
}

func TestEveryTruncationAndExtensionIsRefused(t *testing.T) {
	t.Parallel()
	s := scheme()
	k := ring(t, s)
	c := seal(t, k, s, row(99), "alice@example.com")
	for n := range c {
		if _, _, err := k.Open(nil, row(99), c[:n]); err == nil {
			t.Fatalf("cut to %d bytes: opened", n)
		}
		if _, _, err := k.Open(nil, row(99), c[n+1:]); err == nil {
			t.Fatalf("without the first %d bytes: opened", n+1)
		}
	}
	for n := range 33 {
		if _, _, err := k.Open(nil, row(99), append(bytes.Clone(c), make([]byte, n+1)...)); err == nil {
			t.Fatalf("%d bytes longer: opened", n+1)
		}
	}
}

// TestACellOpensOnlyWhereItBelongs moves one cell to every other place. All columns, schemes
// and keys share one DEK here, so that nothing but the associated data can tell.
func TestACellOpensOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	s := scheme()
	other := s
	other.Column = 8
	newer := s
	newer.Number = 3
	tenant := s
	tenant.KeyID = 43
	free := s
	free.Number, free.RowBound = 4, false
	k := ring(t, s, other, newer, tenant, free)
	c := seal(t, k, s, row(99), "alice@example.com")
	elsewhere := cell.NewKeyring([16]byte{1})
	if err := elsewhere.Add(s, dek(t, 1)); err != nil {
		t.Fatal(err)
	}
	relabel := func(h cell.Header) []byte { return append(h.Append(nil), c[cell.HeaderSize:]...) }
	column8 := row(99)
	column8.Column = 8
	twoParts := cell.Address{Column: 7, Key: cell.AppendKeyInt(cell.AppendKeyInt(cell.AppendKeyCount(nil, 2), 99), 99)}
	textKey := cell.Address{Column: 7, Key: cell.AppendKeyText(cell.AppendKeyCount(nil, 1), int8wire(99))}
	for _, v := range []struct {
		name string
		ring *cell.Keyring
		at   cell.Address
		cell []byte
		want error
	}{
		{"another row", k, row(98), c, cell.ErrAuth},
		{"a longer key", k, twoParts, c, cell.ErrAuth},
		{"the same key bytes of another type", k, textKey, c, cell.ErrAuth},
		{"another column", k, column8, c, cell.ErrForeignColumn},
		{"another column, relabelled", k, column8, relabel(other.Header()), cell.ErrAuth},
		{"another scheme, relabelled", k, row(99), relabel(newer.Header()), cell.ErrAuth},
		{"another key id, relabelled", k, row(99), relabel(tenant.Header()), cell.ErrAuth},
		{"a scheme without binding, relabelled", k, row(99), relabel(free.Header()), cell.ErrAuth},
		{"another installation", elsewhere, row(99), c, cell.ErrAuth},
		{"no row", k, cell.Address{Column: 7}, c, cell.ErrNoKey},
		{"a row of no columns", k, cell.Address{Column: 7, Key: []byte{0, 0}}, c, cell.ErrNoKey},
	} {
		got, _, err := v.ring.Open(nil, v.at, v.cell)
		if !errors.Is(err, v.want) || got != nil {
			t.Errorf("%s: %v, want %v", v.name, err, v.want)
		}
	}
	if _, _, err := k.Open(nil, row(99), c); err != nil {
		t.Errorf("at home: %v", err)
	}
}

func TestACellOfAnotherSchemeDefinitionIsRefused(t *testing.T) {
	t.Parallel()
	s := scheme()
	for name, change := range map[string]func(*cell.Scheme){
		"codec":   func(s *cell.Scheme) { s.Codec = cell.CodecBytes },
		"binding": func(s *cell.Scheme) { s.RowBound = false },
		"padding": func(s *cell.Scheme) { s.Padding = 0 },
		"block":   func(s *cell.Scheme) { s.Padding = 64 }, // 27 bytes of padding, more than 16 ever takes
	} {
		other := s
		change(&other)
		c := seal(t, ring(t, other), other, row(99), "alice@example.com, and some more text")
		_, _, err := ring(t, s).Open(nil, row(99), c)
		if !errors.Is(err, cell.ErrAuth) {
			t.Errorf("%s differs: %v", name, err)
		}
	}
}

func TestUnknownSchemesAndKeysAreToldApart(t *testing.T) {
	t.Parallel()
	s := scheme()
	newer, tenant := s, s
	newer.Number = 3
	tenant.KeyID = 43
	k := ring(t, s)
	for _, v := range []struct {
		s    cell.Scheme
		want error
	}{{newer, cell.ErrUnknownScheme}, {tenant, cell.ErrUnknownKey}} {
		c := seal(t, ring(t, v.s), v.s, row(99), "value")
		_, h, err := k.Open(nil, row(99), c)
		if !errors.Is(err, v.want) || h != v.s.Header() {
			t.Errorf("open: %+v, %v; want %v and the header", h, err, v.want)
		}
		if _, err := k.Seal(nil, v.s, row(99), nil); !errors.Is(err, v.want) {
			t.Errorf("seal: %v, want %v", err, v.want)
		}
		if _, err := k.Sealer(v.s); !errors.Is(err, v.want) {
			t.Errorf("sealer: %v, want %v", err, v.want)
		}
		if err := k.Add(v.s, dek(t, 1)); err != nil {
			t.Fatal(err)
		}
		if got, _, err := k.Open(nil, row(99), c); err != nil || string(got) != "value" {
			t.Errorf("after it was added: %q, %v", got, err)
		}
	}
}

func TestSealRefusesWhatItCannotPlace(t *testing.T) {
	t.Parallel()
	s := scheme()
	k := ring(t, s)
	other := row(1)
	other.Column = 8
	padded := s
	padded.Padding = 32
	for name, v := range map[string]struct {
		s    cell.Scheme
		a    cell.Address
		want error
	}{
		"address of another column": {s, other, cell.ErrForeignColumn},
		"no key":                    {s, cell.Address{Column: 7}, cell.ErrNoKey},
		"key of no columns":         {s, cell.Address{Column: 7, Key: []byte{0, 0}}, cell.ErrNoKey},
		"another definition":        {padded, row(1), cell.ErrUnknownScheme},
	} {
		if _, err := k.Seal(nil, v.s, v.a, []byte("value")); !errors.Is(err, v.want) {
			t.Errorf("%s: %v, want %v", name, err, v.want)
		}
	}
}

func TestASchemeNeverChanges(t *testing.T) {
	t.Parallel()
	s := scheme()
	k := ring(t, s)
	if err := k.Add(s, dek(t, 1)); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := k.Add(s, dek(t, 2)); err == nil {
		t.Error("another key under the same id was taken")
	}
	for name, change := range map[string]func(*cell.Scheme){
		"codec":   func(s *cell.Scheme) { s.Codec = cell.CodecBytes },
		"binding": func(s *cell.Scheme) { s.RowBound = false },
		"padding": func(s *cell.Scheme) { s.Padding = 0 },
	} {
		other := s
		change(&other)
		if err := k.Add(other, dek(t, 1)); err == nil {
			t.Errorf("another %s was taken", name)
		}
	}
	tenant := s
	tenant.KeyID = 43
	if err := k.Add(tenant, dek(t, 2)); err != nil {
		t.Errorf("a second key: %v", err)
	}
	got, ok := k.Scheme(7, 2)
	if !ok || got != s {
		t.Errorf("the scheme became %+v", got)
	}
	if _, ok := k.Scheme(7, 3); ok {
		t.Error("a scheme that was never added is there")
	}
}

func TestInvalidSchemesAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*cell.Scheme){
		"column 0":  func(s *cell.Scheme) { s.Column = 0 },
		"number 0":  func(s *cell.Scheme) { s.Number = 0 },
		"suite 0":   func(s *cell.Scheme) { s.Suite = 0 },
		"suite 2":   func(s *cell.Scheme) { s.Suite = 2 },
		"codec 3":   func(s *cell.Scheme) { s.Codec = 3 },
		"padding 8": func(s *cell.Scheme) { s.Padding = 8 },
		"padding -": func(s *cell.Scheme) { s.Padding = -16 },
		"key id 0":  func(s *cell.Scheme) { s.KeyID = 0 },
	} {
		s := scheme()
		change(&s)
		if err := cell.NewKeyring(registry).Add(s, dek(t, 1)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if err := cell.NewKeyring(registry).Add(scheme(), cell.DEK{}); err == nil {
		t.Error("no key was taken for a key")
	}
}

// TestManyGoroutines is for the race detector: seal, open and add at once.
func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	s := scheme()
	k := ring(t, s)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			own := s
			own.Number = uint16(100 + g)
			if err := k.Add(own, dek(t, byte(g))); err != nil {
				t.Error(err)
				return
			}
			for i := range 200 {
				v := fmt.Sprintf("value %d of %d", i, g)
				for _, each := range []cell.Scheme{s, own} {
					c, err := k.Seal(nil, each, row(int64(i)), []byte(v))
					if err != nil {
						t.Error(err)
						return
					}
					got, _, err := k.Open(nil, row(int64(i)), c)
					if err != nil || string(got) != v {
						t.Errorf("%q, %v", got, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}
