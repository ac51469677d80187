package cell_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/daead"
	"github.com/tink-crypto/tink-go/v2/daead/aessiv"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// keysetOf is Tink's handle of one key.
func keysetOf(t testing.TB, k key.Key) *keyset.Handle {
	t.Helper()
	m := keyset.NewManager()
	id, err := m.AddKey(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	handle, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	return handle
}

// stock returns Tink's own XAES-256-GCM without prefix for a key.
func stock(t testing.TB, key []byte) tink.AEAD {
	t.Helper()
	parameters, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		t.Fatal(err)
	}
	k, err := xaesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, parameters)
	if err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(keysetOf(t, k))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// stockSIV returns Tink's own AES-256-SIV without prefix for a key.
func stockSIV(t testing.TB, key []byte) tink.DeterministicAEAD {
	t.Helper()
	parameters, err := aessiv.NewParameters(64, aessiv.VariantNoPrefix)
	if err != nil {
		t.Fatal(err)
	}
	k, err := aessiv.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, parameters)
	if err != nil {
		t.Fatal(err)
	}
	d, err := daead.New(keysetOf(t, k))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// stockReads reports why Tink does not open what stands behind a header.
func stockReads(t testing.TB, suite cell.Suite, key, message, aad []byte) error {
	t.Helper()
	if suite == cell.SuiteAES256SIV {
		_, err := stockSIV(t, key).DecryptDeterministically(message, aad)
		return err
	}
	_, err := stock(t, key).Decrypt(message, aad)
	return err
}

// associated writes the associated data as docs/envelope.md says, from a cell's first bytes and
// without this package's help.
func associated(header []byte, id int64) []byte {
	b := append([]byte("cfcell/1"), registry[:]...)
	b = append(b, header[:16]...)
	b = append(b, 0, 1, 'i', 0, 0, 0, 8)
	return binary.BigEndian.AppendUint64(b, uint64(id))
}

func TestStockTinkOpensOurCells(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{1}, 32)
	s := scheme()
	s.Padding = 0
	k := ring(t, s)
	for _, v := range []string{"", "alice@example.com", string(make([]byte, 100_000))} {
		c := seal(t, k, s, row(99), v)
		got, err := stock(t, key).Decrypt(c[16:], associated(c, 99))
		if err != nil || string(got) != v {
			t.Fatalf("%d bytes: Tink reads %d, %v", len(v), len(got), err)
		}
		if _, err := stock(t, key).Decrypt(c[16:], associated(c, 98)); err == nil {
			t.Fatal("Tink opens the cell of another row")
		}
	}
}

func TestWeOpenCellsOfStockTink(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{1}, 32)
	s := scheme()
	s.Padding = 0
	k := ring(t, s)
	header := unhex(t, "f5c1000000070002010101000000002a")
	for _, v := range []string{"", "alice@example.com", string(make([]byte, 100_000))} {
		message, err := stock(t, key).Encrypt([]byte(v), associated(header, 99))
		if err != nil {
			t.Fatal(err)
		}
		got, h, err := k.Open(nil, row(99), append(bytes.Clone(header), message...))
		if err != nil || string(got) != v || h != s.Header() {
			t.Fatalf("%d bytes: we read %d, %v", len(v), len(got), err)
		}
	}
}

// TestXAESAgreesWithTink compares the bare cipher, both ways, with keys and texts of all lengths.
func TestXAESAgreesWithTink(t *testing.T) {
	t.Parallel()
	for n := range 200 {
		key := bytes.Repeat([]byte{byte(n)}, 32)
		x, err := cell.NewXAES(key)
		if err != nil {
			t.Fatal(err)
		}
		text, aad := bytes.Repeat([]byte{byte(n + 1)}, n), bytes.Repeat([]byte{byte(n + 2)}, 200-n)
		ours, err := x.Seal(nil, text, aad)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := stock(t, key).Decrypt(ours, aad); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("Tink opens ours of %d bytes: %v", n, err)
		}
		theirs, err := stock(t, key).Encrypt(text, aad)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := x.Open(nil, theirs, aad); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("we open Tink's of %d bytes: %v", n, err)
		}
	}
}
