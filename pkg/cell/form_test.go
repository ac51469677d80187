package cell_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// The vectors of docs/envelope.md.
func TestTheTextFormIsWhatTheSpecificationSays(t *testing.T) {
	t.Parallel()
	header := cell.Header{Column: 7, Scheme: 2, Suite: cell.SuiteXAES256GCM, RowBound: true, Codec: cell.CodecText, KeyID: 42}.Append(nil)
	for name, c := range map[string]struct {
		cell, text string
	}{
		"prefix": {string(header[:9]), "cf1.9cEAAAAHAAIB"},
		"header": {string(header), "cf1.9cEAAAAHAAIBAQEAAAAAKg"},
		"minus":  {"\xfb\xef\xbe", "cf1.----"},
		"lines":  {"\xff\xff\xff", "cf1.____"},
		"none":   {"", "cf1."},
	} {
		for form, want := range map[cell.Form]string{cell.FormBytes: c.cell, cell.FormText: c.text, cell.FormJSON: `"` + c.text + `"`} {
			if got := form.Append([]byte("x"), []byte(c.cell)); string(got) != "x"+want {
				t.Errorf("%s as %s is %q", name, form, got)
			}
			if got, err := form.Parse([]byte("x"), []byte(want)); err != nil || string(got) != "x"+c.cell || len(want) != form.Length(len(c.cell)) {
				t.Errorf("%s from %s is %x, %v", name, form, got, err)
			}
		}
	}
	if cell.TextPrefixSize != len("cf1.9cEAAAAH") {
		t.Errorf("a column is known after %d characters", cell.TextPrefixSize)
	}
}

func TestOtherTextsAreNotTheTextFormOfACell(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "cf1", "cf2.AAAA", "CF1.AAAA", "cf1.AAA=", "cf1.AAAA=", "cf1.A", "cf1.AA+/", "cf1.AAAA\n", "cf1.AA\r\nAA", " cf1.AAAA", "cf1.AB" /* stray bits */, "cf1.ÄÄÄÄ", `"cf1.AAAA"`} {
		if got, err := cell.FormText.Parse([]byte("x"), []byte(text)); !errors.Is(err, cell.ErrNotACell) || string(got) != "x" {
			t.Errorf("%q gave %x, %v", text, got, err)
		}
	}
	for _, text := range []string{"", `"`, "cf1.AAAA", `"cf1.AAAA`, `cf1.AAAA"`, `""`, `{"cf":"cf1.AAAA"}`, ` "cf1.AAAA"`, `"cf1.AAA\u0041"`, "null"} {
		if _, err := cell.FormJSON.Parse(nil, []byte(text)); !errors.Is(err, cell.ErrNotACell) {
			t.Errorf("%q gave %v", text, err)
		}
	}
}

// Whatever is accepted has one spelling.
func FuzzForm(f *testing.F) {
	f.Add(uint8(1), []byte("cf1.9cEAAAAHAAIB"))
	f.Add(uint8(2), []byte(`"cf1.9cEAAAAHAAIB"`))
	f.Add(uint8(1), []byte("cf1.AB"))
	f.Fuzz(func(t *testing.T, form uint8, stored []byte) {
		at := cell.Form(form % 3)
		parsed, err := at.Parse(nil, stored)
		if err == nil && !bytes.Equal(at.Append(nil, parsed), stored) {
			t.Errorf("%s: %q is %x, which is %q", at, stored, parsed, at.Append(nil, parsed))
		}
		again, err := at.Parse(nil, at.Append(nil, stored))
		if err != nil || !bytes.Equal(again, stored) {
			t.Errorf("%s: %x comes back as %x, %v", at, stored, again, err)
		}
	})
}
