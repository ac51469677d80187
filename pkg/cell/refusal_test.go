package cell_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// everyScheme returns one scheme of each suite, binding, padding and null policy there is, all of column 7, with numbers of their own.
func everyScheme(t testing.TB) []cell.Scheme {
	t.Helper()
	var all []cell.Scheme
	for _, suite := range []cell.Suite{cell.SuiteXAES256GCM, cell.SuiteAES256SIV} {
		for _, bound := range []bool{true, false} {
			for _, padding := range []int{0, 16, 32, 64} {
				for _, nulls := range []cell.Nulls{cell.KeepNulls, cell.SealNulls} {
					s := cell.Scheme{Column: 7, Number: uint16(len(all) + 1), Suite: suite, Codec: cell.CodecText, RowBound: bound, Padding: padding, Nulls: nulls, KeyID: 42}
					if s.Validate() == nil {
						all = append(all, s)
					}
				}
			}
		}
	}
	if len(all) != 18 {
		t.Fatalf("%d schemes: a suite that is new belongs here", len(all))
	}
	return all
}

func named(s cell.Scheme) string {
	return fmt.Sprintf("%v, bound %v, padding %d, nulls %v", s.Suite, s.RowBound, s.Padding, s.Nulls)
}

// broken calls f with every copy of b that has one bit altered, is cut at either end, or is longer at either end.
func broken(b []byte, f func(how string, bad []byte)) {
	for i := range len(b) * 8 {
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		f(fmt.Sprintf("bit %d of byte %d altered", i%8, i/8), bad)
	}
	for n := range b {
		f(fmt.Sprintf("cut to %d bytes", n), b[:n])
		f(fmt.Sprintf("without the first %d bytes", n+1), b[n+1:])
	}
	for n := 1; n <= 65; n++ {
		f(fmt.Sprintf("%d bytes longer", n), append(bytes.Clone(b), make([]byte, n)...))
		f(fmt.Sprintf("%d bytes in front", n), append(make([]byte, n), b...))
	}
}

// TestNothingBrokenOpens: every bit, every length, under every scheme, by both ways to open a cell. All schemes of a
// suite share one key, so that a header altered into another scheme's meets the right one.
func TestNothingBrokenOpens(t *testing.T) {
	t.Parallel()
	all := everyScheme(t)
	k := ring(t, all...)
	for _, s := range all {
		t.Run(named(s), func(t *testing.T) {
			t.Parallel()
			w, err := k.Sealer(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range []string{"", "alice@example.com", "exactly sixteen!"} {
				c := seal(t, k, s, row(99), value)
				broken(c, func(how string, bad []byte) {
					if got, _, err := k.Open(nil, row(99), bad); err == nil || got != nil {
						t.Errorf("%q, %s: opens to %q", value, how, got)
					}
					if err := w.OpenAndCompare(row(99), bad, []byte(value)); err == nil {
						t.Errorf("%q, %s: compares as equal", value, how)
					}
				})
				if got, _, err := k.Open(nil, row(99), c); err != nil || string(got) != value {
					t.Errorf("whole: %q, %v", got, err)
				}
			}
		})
	}
}

// TestNoCellOpensElsewhere moves a cell of every scheme to every other scheme, column, key id, row and installation,
// as it is and with its header rewritten. Every scheme of a suite has the same key: only what is authenticated can tell.
func TestNoCellOpensElsewhere(t *testing.T) {
	t.Parallel()
	homes := everyScheme(t)
	all := homes
	for _, s := range homes {
		column, tenant, codec := s, s, s
		column.Column = 8
		tenant.KeyID = 43
		codec.Number, codec.Codec = s.Number+100, cell.CodecBytes
		all = append(all, column, tenant, codec)
	}
	k, elsewhere := ring(t, all...), cell.NewKeyring([16]byte{1})
	for _, s := range all {
		if err := elsewhere.Add(s, dekOf(t, s.Suite, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, home := range homes {
		c := seal(t, k, home, row(99), "alice@example.com")
		for _, other := range all {
			relabelled := append(other.Header().Append(nil), c[cell.HeaderSize:]...)
			at := row(99)
			at.Column = other.Column
			if got, _, err := k.Open(nil, at, relabelled); (err == nil) != (other == home) {
				t.Errorf("%s in scheme %+v: %q, %v", named(home), other, got, err)
			}
			if got, _, err := k.Open(nil, at, c); (err == nil) != (other.Column == home.Column) {
				t.Errorf("%s at column %d: %q, %v", named(home), at.Column, got, err)
			}
		}
		for name, at := range map[string]cell.Address{
			"another row":   row(98),
			"no row":        {Column: 7},
			"another width": {Column: 7, Key: cell.AppendKeyText(cell.AppendKeyCount(nil, 1), int8wire(99))},
		} {
			if got, _, err := k.Open(nil, at, c); (err == nil) != !home.RowBound {
				t.Errorf("%s, %s: %q, %v", named(home), name, got, err)
			}
		}
		if got, _, err := elsewhere.Open(nil, row(99), c); err == nil {
			t.Errorf("%s in another installation: %q", named(home), got)
		}
	}
}

// TestNoBrokenCanaryProvesAKey: every bit and every length, of every scheme; nor does another scheme's canary.
func TestNoBrokenCanaryProvesAKey(t *testing.T) {
	t.Parallel()
	var canaries [][]byte
	all := everyScheme(t)
	for _, s := range all {
		d := dekOf(t, s.Suite, 1)
		canary, err := cell.Canary(registry, s, d)
		if err != nil {
			t.Fatal(err)
		}
		canaries = append(canaries, canary)
		broken(canary, func(how string, bad []byte) {
			if cell.CheckCanary(registry, s, d, bad) == nil {
				t.Errorf("%s, %s: taken for its canary", named(s), how)
			}
		})
	}
	for i, s := range all {
		for j, canary := range canaries {
			if err := cell.CheckCanary(registry, s, dekOf(t, s.Suite, 1), canary); (err == nil) != (i == j) {
				t.Errorf("%s: the canary of %s: %v", named(s), named(all[j]), err)
			}
		}
	}
}

// TestNoBrokenWrappedKeyUnwraps: every bit and every length of what the registry holds, for every suite; and what was
// wrapped for one id unwraps for no other.
func TestNoBrokenWrappedKeyUnwraps(t *testing.T) {
	t.Parallel()
	kek := newKEK(t)
	suites := []cell.Suite{cell.SuiteXAES256GCM, cell.SuiteAES256SIV, cell.SuiteBlindIndex}
	for _, suite := range suites {
		id := identity()
		id.Suite = suite
		wrapped, err := cell.WrapDEK(t.Context(), kek, id, dekOf(t, suite, 1))
		if err != nil {
			t.Fatal(err)
		}
		broken(wrapped, func(how string, bad []byte) {
			if _, err := cell.UnwrapDEK(t.Context(), kek, id, bad); cell.KEKClassOf(err) != cell.KEKCorrupt {
				t.Errorf("%v, %s: %v", suite, how, err)
			}
		})
		for _, other := range suites {
			for _, column := range []uint32{7, 8} {
				for _, key := range []uint32{42, 43} {
					at := cell.DEKID{Registry: registry, Column: column, KeyID: key, Suite: other}
					if _, err := cell.UnwrapDEK(t.Context(), kek, at, wrapped); (err == nil) != (at == id) {
						t.Errorf("%v unwraps as %+v: %v", suite, at, err)
					}
				}
			}
		}
	}
}

// FuzzUnwrapDEK: no bytes are taken for a wrapped key, and what fails is the wrapped key's fault.
func FuzzUnwrapDEK(f *testing.F) {
	kek := newKEK(f)
	wrapped, err := cell.WrapDEK(f.Context(), kek, identity(), dek(f, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped[:20])
	f.Add([]byte(nil))
	f.Add(append(bytes.Clone(wrapped[:len(wrapped)-1]), wrapped[len(wrapped)-1]^1))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := cell.UnwrapDEK(t.Context(), kek, identity(), b)
		if err == nil && !cell.SameKeyForTest(got, dek(t, 1)) || err != nil && cell.KEKClassOf(err) != cell.KEKCorrupt {
			t.Fatalf("%x: %v", b, err)
		}
	})
}
