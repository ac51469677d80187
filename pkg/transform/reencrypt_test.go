package transform_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// another is a further scheme of the keyring's column.
func another(t testing.TB, ring *cell.Keyring, scheme cell.Scheme) cell.Scheme {
	t.Helper()
	dek, err := cell.NewDEK()
	if err == nil {
		err = ring.Add(scheme, dek)
	}
	if err != nil {
		t.Fatal(err)
	}
	return scheme
}

func reencrypt(t testing.TB, ring *cell.Keyring, to cell.Scheme) *transform.Reencrypt {
	t.Helper()
	r, err := transform.NewReencrypt(ring, to)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestACellIsSealedAnewUnderAnySchemeThatHoldsItsValue(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	plain := [][]byte{[]byte("one"), nil, {}, []byte("größer"), bytes.Repeat([]byte("x"), 10_000)}
	for name, to := range map[string]cell.Scheme{
		"another key":     {Column: 7, Number: 2, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 16, RowBound: true, KeyID: 9},
		"no row":          {Column: 7, Number: 3, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 16, KeyID: 10},
		"another padding": {Column: 7, Number: 4, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, RowBound: true, KeyID: 11},
		"another codec":   {Column: 7, Number: 5, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecBytes, Padding: 64, RowBound: true, KeyID: 12},
	} {
		another(t, ring, to)
		values := sealedValues(t, ring, scheme, plain...)
		if err := reencrypt(t, ring, to).Apply(t.Context(), values); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if (v.Out == nil) != (plain[i] == nil) {
				t.Errorf("%s: NULL and value %d were mixed up", name, i)
			}
			if v.Out == nil {
				continue
			}
			opened, header, err := ring.Open(nil, v.Address, v.Out)
			if err != nil || header.Scheme != to.Number || !bytes.Equal(opened, plain[i]) {
				t.Errorf("%s: value %d opens under scheme %d to %d bytes, %v", name, i, header.Scheme, len(opened), err)
			}
			if _, _, err := ring.Open(nil, address(99), v.Out); (err == nil) == to.RowBound {
				t.Errorf("%s: value %d in another row: %v", name, i, err)
			}
		}
	}
}

func TestWhatDoesNotOpenIsNeverSealedAnew(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	to := another(t, ring, cell.Scheme{Column: 7, Number: 2, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 16, RowBound: true, KeyID: 9})
	number := another(t, ring, cell.Scheme{Column: 7, Number: 3, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecInt, RowBound: true, KeyID: 10})
	for name, spoil := range map[string]func(*transform.Value){
		"damaged":           func(v *transform.Value) { v.In[len(v.In)-1] ^= 1 },
		"of another row":    func(v *transform.Value) { v.Address = address(99) },
		"plaintext":         func(v *transform.Value) { v.In = []byte("plaintext") },
		"empty":             func(v *transform.Value) { v.In = []byte{} },
		"of another column": func(v *transform.Value) { v.In[5] ^= 1 },
		"of unknown scheme": func(v *transform.Value) { v.In[7] = 77 },
		"of another type": func(v *transform.Value) {
			v.In, _ = ring.Seal(nil, number, v.Address, make([]byte, 8))
		},
	} {
		values := sealedValues(t, ring, scheme, []byte("one"), []byte("two"))
		spoil(&values[1])
		if err := reencrypt(t, ring, to).Apply(t.Context(), values); !errors.Is(err, transform.ErrValue) || values[1].Out != nil {
			t.Errorf("a cell that is %s gave %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := reencrypt(t, ring, to).Apply(ctx, sealedValues(t, ring, scheme, []byte("one"))); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Apply gave %v", err)
	}
	broken := transform.InterfereAnew(reencrypt(t, ring, to), func(sealed []byte) { sealed[len(sealed)-1] ^= 1 })
	if err := broken.Apply(t.Context(), sealedValues(t, ring, scheme, []byte("one"))); err == nil || errors.Is(err, transform.ErrValue) {
		t.Errorf("a cell that was damaged in memory gave %v", err)
	}
}

func TestASchemeThatIsLearntMeanwhileIsRead(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	newer := cell.NewKeyring(ring.Registry())
	dek, err := cell.NewDEK()
	late := cell.Scheme{Column: 7, Number: 2, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, RowBound: true, KeyID: 9}
	if err == nil {
		err = newer.Add(late, dek)
	}
	if err != nil {
		t.Fatal(err)
	}
	values := sealedValues(t, newer, late, []byte("one"), []byte("two"))
	learnt := 0
	r := reencrypt(t, ring, scheme)
	r.Learn = func(context.Context, error) bool {
		learnt++
		return ring.Add(late, dek) == nil
	}
	if err := r.Apply(t.Context(), values); err != nil || learnt != 1 {
		t.Errorf("after %d looks into the registry: %v", learnt, err)
	}
}

func TestACellIsSealedAnewWithFewAllocations(t *testing.T) {
	ring, scheme := keyring(t)
	to := another(t, ring, cell.Scheme{Column: 7, Number: 2, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 16, RowBound: true, KeyID: 9})
	plain := make([][]byte, 1000)
	for i := range plain {
		plain[i] = []byte("alice@example.com")
	}
	values := sealedValues(t, ring, scheme, plain...)
	r := reencrypt(t, ring, to)
	allocs := testing.AllocsPerRun(10, func() {
		if err := r.Apply(t.Context(), values); err != nil {
			t.Fatal(err)
		}
	})
	if per := allocs / float64(len(values)); per > 10 {
		t.Errorf("%.1f allocations per cell", per)
	}
}

func BenchmarkReencrypt(b *testing.B) {
	ring := cell.NewKeyring([16]byte{1})
	from := another(b, ring, cell.Scheme{Column: 7, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 16, RowBound: true, KeyID: 3})
	to := another(b, ring, cell.Scheme{Column: 7, Number: 2, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 16, RowBound: true, KeyID: 9})
	sealed, err := ring.Seal(nil, from, address(1), []byte("alice.liddell@example.co"))
	if err != nil {
		b.Fatal(err)
	}
	values := []transform.Value{{Address: address(1), In: sealed}}
	r := reencrypt(b, ring, to)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Apply(b.Context(), values); err != nil {
			b.Fatal(err)
		}
	}
}
