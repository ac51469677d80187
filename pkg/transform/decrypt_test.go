package transform_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

var textType = cell.TypeInfo{OID: 25, Name: "text", Kind: 'b', Category: 'S'}

// sealedValues are values 1 to n, sealed, as the input of a Decrypt.
func sealedValues(t *testing.T, ring *cell.Keyring, scheme cell.Scheme, plain ...[]byte) []transform.Value {
	t.Helper()
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]transform.Value, len(plain))
	for i, p := range plain {
		values[i] = transform.Value{Address: address(int64(i)), In: p}
	}
	if err := e.Apply(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	for i := range values {
		values[i].In, values[i].Out = values[i].Out, []byte("left over")
	}
	return values
}

func TestDecryptIsTheWayBack(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	plain := [][]byte{[]byte("one"), nil, {}, []byte("größer"), bytes.Repeat([]byte("x"), 10_000)}
	values := sealedValues(t, ring, scheme, plain...)
	if err := transform.NewDecrypt(ring, cell.CodecText, textType).Apply(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if !bytes.Equal(v.Out, plain[i]) || (v.Out == nil) != (plain[i] == nil) {
			t.Errorf("value %d did not come back", i)
		}
	}
}

func TestDecryptGivesTheColumnsOwnWidth(t *testing.T) {
	t.Parallel()
	ring := cell.NewKeyring([16]byte{1})
	scheme := cell.Scheme{Column: 7, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecInt, RowBound: true, KeyID: 3}
	dek, err := cell.NewDEK()
	if err == nil {
		err = ring.Add(scheme, dek)
	}
	if err != nil {
		t.Fatal(err)
	}
	wide := binary.BigEndian.AppendUint64(nil, 1<<40)
	small := binary.BigEndian.AppendUint64(nil, 1)
	int4 := cell.TypeInfo{OID: 23, Name: "int4", Kind: 'b', Category: 'N'}
	values := sealedValues(t, ring, scheme, small)
	if err := transform.NewDecrypt(ring, cell.CodecInt, int4).Apply(t.Context(), values); err != nil || !bytes.Equal(values[0].Out, []byte{0, 0, 0, 1}) {
		t.Errorf("an int8 for an int4 gave %d bytes, %v", len(values[0].Out), err)
	}
	err = transform.NewDecrypt(ring, cell.CodecInt, int4).Apply(t.Context(), sealedValues(t, ring, scheme, wide))
	if !errors.Is(err, transform.ErrValue) {
		t.Errorf("a number too wide for its column gave %v", err)
	}
}

func TestACellThatDoesNotOpenIsTheValuesFault(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	for name, spoil := range map[string]func(*transform.Value){
		"damaged":           func(v *transform.Value) { v.In[len(v.In)-1] ^= 1 },
		"of another row":    func(v *transform.Value) { v.Address = address(99) },
		"cut off":           func(v *transform.Value) { v.In = v.In[:len(v.In)-1] },
		"no cell":           func(v *transform.Value) { v.In = []byte("plaintext") },
		"empty":             func(v *transform.Value) { v.In = []byte{} },
		"of another column": func(v *transform.Value) { v.Address.Column = 8 },
	} {
		values := sealedValues(t, ring, scheme, []byte("one"), []byte("two"))
		spoil(&values[1])
		if err := transform.NewDecrypt(ring, cell.CodecText, textType).Apply(t.Context(), values); !errors.Is(err, transform.ErrValue) {
			t.Errorf("a cell that is %s gave %v", name, err)
		}
	}
	values := sealedValues(t, ring, scheme, []byte("one"))
	if err := transform.NewDecrypt(ring, cell.CodecOutput, textType).Apply(t.Context(), values); !errors.Is(err, transform.ErrValue) {
		t.Errorf("a cell of another codec gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := transform.NewDecrypt(ring, cell.CodecText, textType).Apply(ctx, values); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Apply gave %v", err)
	}
}

// A cell that is bound to columns which nobody read with its row says nothing against the value: the row is read again, by
// who knows the scheme.
func TestACellWhoseColumnsWereNotReadIsNotTheValuesFault(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	scheme.Number, scheme.KeyID, scheme.Columns = 2, 4, "3i"
	dek, err := cell.NewDEK()
	if err == nil {
		err = ring.Add(scheme, dek)
	}
	if err != nil {
		t.Fatal(err)
	}
	at := address(1)
	at.Bound = []cell.Bound{{Columns: "3i", Key: address(5).Key}}
	sealed, err := ring.Seal(nil, scheme, at, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	values := []transform.Value{{Address: address(1), In: sealed}}
	if err := transform.NewDecrypt(ring, cell.CodecText, textType).Apply(t.Context(), values); !errors.Is(err, cell.ErrNoColumns) || errors.Is(err, transform.ErrValue) {
		t.Errorf("the columns were not read: %v", err)
	}
}
