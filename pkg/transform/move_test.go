package transform_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// mover opens cells of the keyring's column 7 and seals them into column 8.
func mover(t testing.TB, ring *cell.Keyring) (*transform.Reencrypt, cell.Scheme) {
	t.Helper()
	to := another(t, ring, cell.Scheme{Column: 8, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 16, RowBound: true, KeyID: 9})
	r := reencrypt(t, ring, to)
	r.From = 7
	return r, to
}

func TestACellMovesToAnotherColumnOfItsRow(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	plain := [][]byte{[]byte("one"), nil, {}, bytes.Repeat([]byte("x"), 10_000)}
	values := sealedValues(t, ring, scheme, plain...)
	for i := range values {
		values[i].Address.Column = 8 // as the engine addresses the column that it writes
	}
	r, _ := mover(t, ring)
	if err := r.Apply(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if (v.Out == nil) != (plain[i] == nil) {
			t.Fatalf("NULL and value %d were mixed up", i)
		}
		if v.Out == nil {
			continue
		}
		opened, header, err := ring.Open(nil, v.Address, v.Out)
		if err != nil || header.Column != 8 || !bytes.Equal(opened, plain[i]) {
			t.Errorf("value %d opens as a cell of column %d to %d bytes, %v", i, header.Column, len(opened), err)
		}
		old := v.Address
		old.Column = 7
		if _, _, err := ring.Open(nil, old, v.Out); err == nil {
			t.Errorf("value %d opens in the column that it left", i)
		}
	}
}

// TestOnlyCellsOfTheirOwnColumnAndRowMove: neither a cell of the column that is written, nor one of another row.
func TestOnlyCellsOfTheirOwnColumnAndRowMove(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	r, to := mover(t, ring)
	foreign := sealedValues(t, ring, scheme, []byte("one"), []byte("two"))
	swapped := []transform.Value{{Address: foreign[0].Address, In: foreign[1].In}}
	own, err := ring.Seal(nil, to, cell.Address{Column: 8, Key: foreign[0].Address.Key}, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string][]transform.Value{"another row's": swapped, "the new column's": {{Address: foreign[0].Address, In: own}}} {
		if err := r.Apply(t.Context(), values); !errors.Is(err, transform.ErrValue) {
			t.Errorf("%s cell: %v", name, err)
		}
	}
}

// TestANewCellThatHoldsTheOldOneStays: a pass that compares writes what differs, and nothing else.
func TestANewCellThatHoldsTheOldOneStays(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	r, to := mover(t, ring)
	values := sealedValues(t, ring, scheme, []byte("one"), []byte("two"), []byte("three"))
	for i, stored := range []string{"one", "another"} {
		values[i].Address.Column = 8
		var err error
		if values[i].Is, err = ring.Seal(nil, to, values[i].Address, []byte(stored)); err != nil {
			t.Fatal(err)
		}
	}
	values[2].Is = []byte("no cell at all")
	if err := r.Apply(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	if !values[0].Kept || !bytes.Equal(values[0].Out, values[0].Is) {
		t.Error("a cell of the same value was sealed anew")
	}
	for i, v := range values[1:] {
		opened, _, err := ring.Open(nil, cell.Address{Column: 8, Key: v.Address.Key}, v.Out)
		if v.Kept || err != nil || string(opened) != []string{"two", "three"}[i] {
			t.Errorf("value %d: kept %t, %v", i+1, v.Kept, err)
		}
	}
}
