package transform_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// parts opens a value to what it was handed, or fails as it was told.
type parts struct{ fails error }

func (p parts) Open(_ context.Context, v foreign.Value) ([]byte, error) {
	if p.fails != nil || v.Cell == nil {
		return nil, p.fails
	}
	return append(append(append([]byte{}, v.Cell...), v.IV...), v.Salt...), nil
}

// recordOf is a record of texts as Postgres sends it in binary; nil is NULL.
func recordOf(fields ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(fields)))
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, 25)
		if f == nil {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	return b
}

// What is the value's fault sets its row aside; what is not is somebody else's, and may pass.
func TestAnOpenerTellsWhoseFaultItIs(t *testing.T) {
	t.Parallel()
	down := &cell.KEKError{Class: cell.KEKUnavailable, Err: errors.New("down")}
	for name, c := range map[string]struct {
		opener transform.Opener
		in     []byte
		want   string
		fault  bool // the value's
		fails  error
	}{
		"NULL":                {opener: transform.Opener{Reader: parts{errors.New("never asked")}}},
		"alone":               {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecText}, in: []byte("cell"), want: "cell"},
		"with vector":         {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecText, IV: 1}, in: recordOf([]byte("a"), []byte("b")), want: "ab"},
		"with both":           {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecText, IV: 1, Salt: 2}, in: recordOf([]byte("a"), []byte("b"), []byte("c")), want: "abc"},
		"salt before vector":  {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecText, IV: 2, Salt: 1}, in: recordOf([]byte("a"), []byte("b"), []byte("c")), want: "acb"},
		"no vector":           {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecText, IV: 1}, in: recordOf([]byte("a"), nil), fault: true},
		"empty, no vector":    {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecText, IV: 1}, in: recordOf([]byte{}, nil), want: ""},
		"not of the format":   {opener: transform.Opener{Reader: parts{foreign.ErrForm}}, in: []byte("x"), fault: true},
		"altered":             {opener: transform.Opener{Reader: parts{foreign.ErrAuth}}, in: []byte("x"), fault: true},
		"of another kind":     {opener: transform.Opener{Reader: parts{foreign.ErrUnsupported}}, in: []byte("x"), fault: true},
		"refused by a server": {opener: transform.Opener{Reader: parts{&cell.KEKError{Class: cell.KEKCorrupt, Err: errors.New("400")}}}, in: []byte("x"), fault: true},
		"a server is down":    {opener: transform.Opener{Reader: parts{down}}, in: []byte("x"), fails: down},
		"whole number":        {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecInt}, in: []byte("-2"), want: "\xff\xff\xff\xff\xff\xff\xff\xfe"},
		"no whole number":     {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecInt}, in: []byte("2.5"), fault: true},
		"number":              {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecFloat8}, in: []byte("-0"), want: "\x80\x00\x00\x00\x00\x00\x00\x00"},
		"no number":           {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecFloat8}, in: []byte("two"), fault: true},
		"true":                {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecBool}, in: []byte("true"), want: "\x01"},
		"false":               {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecBool}, in: []byte("f"), want: "\x00"},
		"no boolean":          {opener: transform.Opener{Reader: parts{}, Codec: cell.CodecBool}, in: []byte("maybe"), fault: true},
	} {
		got, err := c.opener.Wire(t.Context(), c.in)
		switch {
		case c.fault && (!errors.Is(err, transform.ErrValue) || got != nil):
			t.Errorf("%s: %q, %v", name, got, err)
		case c.fails != nil && (!errors.Is(err, c.fails) || errors.Is(err, transform.ErrValue)):
			t.Errorf("%s: %v", name, err)
		case !c.fault && c.fails == nil && (err != nil || string(got) != c.want || (got == nil) != (c.in == nil)):
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// FuzzRecord: nothing that is no record is taken for one, and nothing panics.
func FuzzRecord(f *testing.F) {
	f.Add(recordOf([]byte("a"), []byte("b"), nil))
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 25, 0x7f, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		o := transform.Opener{Reader: parts{}, Codec: cell.CodecBytes, IV: 1, Salt: 2}
		got, err := o.Wire(t.Context(), in)
		if err == nil && len(got) > len(in) {
			t.Errorf("%d bytes of %d", len(got), len(in))
		}
	})
}

// nothing opens every value to NULL.
type nothing struct{}

func (nothing) Open(context.Context, foreign.Value) ([]byte, error) { return nil, nil }

// An encrypted NULL is told from what does not open, and a value that may never have been encrypted from one that tells
// something of the key.
func TestAnOpenerNamesAnEncryptedNull(t *testing.T) {
	t.Parallel()
	o := transform.Opener{Reader: nothing{}, Codec: cell.CodecBool}
	if _, err := o.Wire(t.Context(), []byte("x")); !errors.Is(err, transform.ErrSealedNull) || !errors.Is(err, transform.ErrValue) {
		t.Errorf("an encrypted NULL is %v", err)
	}
	for in, tells := range map[string]bool{"x": true, "": false} {
		if o.Tells([]byte(in)) != tells {
			t.Errorf("%q tells: %t", in, !tells)
		}
	}
	o.IV = 1
	if o.Tells(recordOf([]byte{}, nil)) || !o.Tells(recordOf([]byte("x"), nil)) {
		t.Error("with a vector")
	}
}
