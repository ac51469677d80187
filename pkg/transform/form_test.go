package transform_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

func TestCellsGoThroughEveryForm(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	plain := [][]byte{[]byte("one"), nil, {}, bytes.Repeat([]byte("x"), 10_000)}
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		e, err := transform.NewEncrypt(ring, scheme)
		if err != nil {
			t.Fatal(err)
		}
		values := make([]transform.Value, len(plain))
		for i, p := range plain {
			values[i] = transform.Value{Address: address(int64(i)), In: p}
		}
		for _, step := range []transform.Transform{
			transform.Formed(e, cell.FormBytes, form),
			transform.Formed(reencrypt(t, ring, scheme), form, cell.FormText),
			transform.Formed(reencrypt(t, ring, scheme), cell.FormText, form),
			transform.Formed(transform.NewDecrypt(ring, cell.CodecText, textType), form, cell.FormBytes),
		} {
			if err := step.Apply(t.Context(), values); err != nil {
				t.Fatal(err)
			}
			for i := range values {
				values[i].In, values[i].Out = values[i].Out, []byte("left over")
			}
		}
		for i, v := range values {
			if !bytes.Equal(v.In, plain[i]) || (v.In == nil) != (plain[i] == nil) {
				t.Errorf("value %d did not come back from %s", i, form)
			}
		}
	}
	bad := []transform.Value{{Address: address(1), In: []byte("cf1.====")}}
	if err := transform.Formed(reencrypt(t, ring, scheme), cell.FormText, cell.FormText).Apply(t.Context(), bad); !errors.Is(err, transform.ErrValue) {
		t.Errorf("a text that is no cell gave %v", err)
	}
}
