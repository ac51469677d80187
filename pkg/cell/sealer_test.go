package cell_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

func sealer(t testing.TB, s cell.Scheme) *cell.Sealer {
	t.Helper()
	w, err := ring(t, s).Sealer(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestASealerSealsWhatTheKeyringOpens(t *testing.T) {
	t.Parallel()
	s := scheme()
	k := ring(t, s)
	w, err := k.Sealer(s)
	if err != nil {
		t.Fatal(err)
	}
	if w.Scheme() != s {
		t.Errorf("scheme %+v", w.Scheme())
	}
	var cells [][]byte
	for i := range 100 {
		c, err := w.Seal(nil, row(int64(i)), bytes.Repeat([]byte{'x'}, i))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.OpenAndCompare(row(int64(i)), c, bytes.Repeat([]byte{'x'}, i)); err != nil {
			t.Fatal(err)
		}
		cells = append(cells, c)
	}
	for i, c := range cells { // also long after its Seal, when the subkey is another
		if err := w.OpenAndCompare(row(int64(i)), c, bytes.Repeat([]byte{'x'}, i)); err != nil {
			t.Fatalf("cell %d, later: %v", i, err)
		}
		if got, _, err := k.Open(nil, row(int64(i)), c); err != nil || len(got) != i {
			t.Fatalf("cell %d: %d bytes, %v", i, len(got), err)
		}
	}
}

// TestTheCheapCheckIsATrueCheck alters the stored cell, its address and its value right after
// the Seal, when the check uses the subkey again: each must be seen.
func TestTheCheapCheckIsATrueCheck(t *testing.T) {
	t.Parallel()
	const value = "alice@example.com"
	s := scheme()
	w := sealer(t, s)
	fresh := func() []byte {
		c, err := w.Seal(nil, row(99), []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range len(fresh()) * 8 {
		bad := fresh()
		bad[i/8] ^= 1 << (i % 8)
		if err := w.OpenAndCompare(row(99), bad, []byte(value)); err == nil {
			t.Fatalf("bit %d of byte %d altered: not seen", i%8, i/8)
		}
	}
	for n := range fresh() {
		if err := w.OpenAndCompare(row(99), fresh()[:n], []byte(value)); err == nil {
			t.Fatalf("cut to %d bytes: not seen", n)
		}
	}
	column8 := row(99)
	column8.Column = 8
	for name, v := range map[string]struct {
		a     cell.Address
		value string
		want  error
	}{
		"another row":    {row(98), value, cell.ErrAuth},
		"no row":         {cell.Address{Column: 7}, value, cell.ErrNoKey},
		"another column": {column8, value, cell.ErrForeignColumn},
		"another value":  {row(99), "mallory@example.com", cell.ErrDiffers},
		"a longer value": {row(99), value + "x", cell.ErrDiffers},
		"no value":       {row(99), "", cell.ErrDiffers},
	} {
		if err := w.OpenAndCompare(v.a, fresh(), []byte(v.value)); !errors.Is(err, v.want) {
			t.Errorf("%s: %v, want %v", name, err, v.want)
		}
	}
	first, second := fresh(), fresh()
	mixed := append(bytes.Clone(first[:cell.HeaderSize+cell.SaltSize]), second[cell.HeaderSize+cell.SaltSize:]...)
	if err := w.OpenAndCompare(row(99), mixed, []byte(value)); !errors.Is(err, cell.ErrAuth) {
		t.Errorf("another cell's salt: %v", err)
	}
	if err := w.OpenAndCompare(row(99), []byte(value), []byte(value)); !errors.Is(err, cell.ErrNotACell) {
		t.Errorf("plaintext for a cell: %v", err)
	}
}

// TestACellUnderAnotherKeyIsSeen: same header, same address, another DEK.
func TestACellUnderAnotherKeyIsSeen(t *testing.T) {
	t.Parallel()
	s := scheme()
	other := cell.NewKeyring(registry)
	if err := other.Add(s, dek(t, 2)); err != nil {
		t.Fatal(err)
	}
	c := seal(t, other, s, row(99), "value")
	if err := sealer(t, s).OpenAndCompare(row(99), c, []byte("value")); !errors.Is(err, cell.ErrAuth) {
		t.Error(err)
	}
	if _, _, err := ring(t, s).Open(nil, row(99), c); !errors.Is(err, cell.ErrAuth) {
		t.Error(err)
	}
}

func TestAFailedSealLeavesTheSealerUsable(t *testing.T) {
	t.Parallel()
	w := sealer(t, scheme())
	if _, err := w.Seal(nil, cell.Address{Column: 7}, []byte("value")); !errors.Is(err, cell.ErrNoKey) {
		t.Fatal(err)
	}
	if err := w.OpenAndCompare(row(1), []byte("x"), nil); err == nil {
		t.Fatal("opened")
	}
	c, err := w.Seal(nil, row(1), []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.OpenAndCompare(row(1), c, []byte("value")); err != nil {
		t.Fatal(err)
	}
}
