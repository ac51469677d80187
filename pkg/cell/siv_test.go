package cell_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

func TestEqualValuesOfAColumnMakeEqualCells(t *testing.T) {
	t.Parallel()
	s := deterministic()
	k := ring(t, s)
	w := sealer(t, s)
	first := seal(t, k, s, row(1), "alice@example.com")
	second, err := w.Seal(nil, row(2), []byte("alice@example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) || len(first) != s.SealedLength(17) || len(first) != 64 {
		t.Errorf("cells of %d and %d bytes differ", len(first), len(second))
	}
	if bytes.Contains(first, []byte("alice")) {
		t.Error("the cell shows its value")
	}
	if err := w.OpenAndCompare(row(3), first, []byte("alice@example.com")); err != nil {
		t.Error(err)
	}
	if err := w.OpenAndCompare(row(3), first, []byte("alice@example.con")); !errors.Is(err, cell.ErrDiffers) {
		t.Errorf("another value: %v", err)
	}
	if got, h, err := k.Open([]byte("before"), row(4), first); err != nil || string(got) != "beforealice@example.com" || h != s.Header() {
		t.Errorf("%q, %+v, %v", got, h, err)
	}
	if got, _, err := k.Open(nil, row(4), seal(t, k, s, row(1), "")); err != nil || got == nil || len(got) != 0 {
		t.Errorf("the empty value came back as %v, %v", got, err)
	}
}

// TestDeterministicCellsDifferAcrossEverythingElse: what the associated data holds separates equal values.
func TestDeterministicCellsDifferAcrossEverythingElse(t *testing.T) {
	t.Parallel()
	base := deterministic()
	seen := map[string]string{}
	note := func(name string, registry [16]byte, s cell.Scheme, key byte, value string) {
		k := cell.NewKeyring(registry)
		if err := k.Add(s, dekOf(t, s.Suite, key)); err != nil {
			t.Fatal(err)
		}
		c, err := k.Seal(nil, s, cell.Address{Column: s.Column}, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		tag := string(c[cell.HeaderSize : cell.HeaderSize+cell.TagSize])
		if old, ok := seen[tag]; ok {
			t.Errorf("%s seals as %s does", name, old)
		}
		seen[tag] = name
	}
	change := func(f func(*cell.Scheme)) cell.Scheme { s := base; f(&s); return s }
	note("base", registry, base, 1, "value")
	note("another value", registry, base, 1, "valve")
	note("another key", registry, base, 2, "value")
	note("another registry", [16]byte{1}, base, 1, "value")
	note("another column", registry, change(func(s *cell.Scheme) { s.Column++ }), 1, "value")
	note("another scheme", registry, change(func(s *cell.Scheme) { s.Number++ }), 1, "value")
	note("another key id", registry, change(func(s *cell.Scheme) { s.KeyID++ }), 1, "value")
	note("another codec", registry, change(func(s *cell.Scheme) { s.Codec = cell.CodecOutput }), 1, "value")
	note("no padding", registry, change(func(s *cell.Scheme) { s.Padding = 0 }), 1, "value")
}

func TestEveryAlteredBitOfADeterministicCellIsRefused(t *testing.T) {
	t.Parallel()
	for _, padding := range []int{0, 16} {
		s := deterministic()
		s.Padding = padding
		k := ring(t, s)
		c := seal(t, k, s, row(1), "alice@example.com")
		for i := range len(c) * 8 {
			bad := bytes.Clone(c)
			bad[i/8] ^= 1 << (i % 8)
			if got, _, err := k.Open(nil, row(1), bad); err == nil || got != nil {
				t.Fatalf("bit %d of byte %d altered: opened", i%8, i/8)
			} else if i/8 >= cell.HeaderSize && !errors.Is(err, cell.ErrAuth) {
				t.Fatalf("byte %d altered: %v", i/8, err)
			}
		}
		for n := range c {
			if _, _, err := k.Open(nil, row(1), c[:n]); err == nil {
				t.Fatalf("cut to %d bytes: opened", n)
			}
		}
	}
}

func TestADeterministicSchemeCannotBindRows(t *testing.T) {
	t.Parallel()
	s := deterministic()
	s.RowBound = true
	d := dekOf(t, s.Suite, 1)
	if err := s.Validate(); err == nil {
		t.Error("it validates")
	}
	if err := cell.NewKeyring(registry).Add(s, d); err == nil {
		t.Error("it was added")
	}
	if _, err := cell.Canary(registry, s, d); err == nil {
		t.Error("it has a canary")
	}
}

func TestAKeyOfAnotherSuiteIsRefused(t *testing.T) {
	t.Parallel()
	for _, suite := range []cell.Suite{cell.SuiteXAES256GCM, cell.SuiteAES256SIV} {
		s := deterministic()
		s.Suite = suite
		wrong := dekOf(t, cell.SuiteXAES256GCM+cell.SuiteAES256SIV-suite, 1)
		if err := cell.NewKeyring(registry).Add(s, wrong); err == nil {
			t.Errorf("%v takes the key of another suite", suite)
		}
		id := identity()
		id.Suite = suite
		if _, err := cell.WrapDEK(t.Context(), newKEK(t), id, wrong); err == nil {
			t.Errorf("the key of another suite was wrapped for %v", suite)
		}
	}
	if _, err := cell.Suite(3).NewDEK(); err == nil {
		t.Error("a key was drawn for suite 3")
	}
	s := deterministic()
	s.Suite = cell.SuiteBlindIndex
	if err := s.Validate(); err == nil {
		t.Error("a scheme takes the suite of a blind index")
	}
}

func TestACanaryOfADeterministicScheme(t *testing.T) {
	t.Parallel()
	s := deterministic()
	d := dekOf(t, s.Suite, 1)
	canary, err := cell.Canary(registry, s, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := cell.CheckCanary(registry, s, d, canary); err != nil {
		t.Fatal(err)
	}
	if err := cell.CheckCanary(registry, s, dekOf(t, s.Suite, 2), canary); !errors.Is(err, cell.ErrAuth) {
		t.Errorf("another key: %v", err)
	}
	if _, _, err := ring(t, s).Open(nil, row(1), canary); !errors.Is(err, cell.ErrAuth) {
		t.Errorf("it opens in the column: %v", err)
	}
}

func TestAKeyringTellsDeterministicKeysApart(t *testing.T) {
	t.Parallel()
	s := deterministic()
	k := ring(t, s)
	if err := k.Add(s, dekOf(t, s.Suite, 1)); err != nil {
		t.Errorf("the same key again: %v", err)
	}
	if err := k.Add(s, dekOf(t, s.Suite, 2)); err == nil {
		t.Error("another key under the same id was taken")
	}
}

func TestAWipedKeyLeavesTheKeyringAlone(t *testing.T) {
	t.Parallel()
	s := deterministic()
	d := dekOf(t, s.Suite, 1)
	k := cell.NewKeyring(registry)
	if err := k.Add(s, d); err != nil {
		t.Fatal(err)
	}
	d.Wipe()
	if c := seal(t, k, s, row(1), "value"); !bytes.Equal(c, seal(t, ring(t, s), s, row(1), "value")) {
		t.Error("the keyring seals with a wiped key")
	}
}

// spy is a KEK that keeps the last keyset that it unwrapped.
type spy struct {
	*localKEK
	last []byte
}

func (s *spy) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	plain, err := s.localKEK.Unwrap(ctx, wrapped, aad)
	s.last = bytes.Clone(plain)
	return plain, err
}

// TestEverySuiteWrapsItsKeyAndNoOther also hands the keyset of one suite to a reader of another, which the
// associated data would prevent already.
func TestEverySuiteWrapsItsKeyAndNoOther(t *testing.T) {
	t.Parallel()
	suites := []cell.Suite{cell.SuiteXAES256GCM, cell.SuiteAES256SIV, cell.SuiteBlindIndex}
	for _, suite := range suites {
		kek, id := &spy{localKEK: newKEK(t)}, identity()
		id.Suite = suite
		d, err := suite.NewDEK()
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := cell.WrapDEK(t.Context(), kek, id, d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := cell.UnwrapDEK(t.Context(), kek, id, wrapped)
		if err != nil || !cell.SameKeyForTest(d, back) {
			t.Errorf("%v: %v", suite, err)
		}
		for _, other := range suites {
			id.Suite = other
			deceived := newKEK(t)
			deceived.answer = func() []byte { return bytes.Clone(kek.last) }
			if _, err := cell.UnwrapDEK(t.Context(), deceived, id, wrapped); (err == nil) != (other == suite) {
				t.Errorf("a key for %v unwraps for %v: %v", suite, other, err)
			}
		}
	}
}
