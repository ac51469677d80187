package transform_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

func keyring(t *testing.T) (*cell.Keyring, cell.Scheme) {
	t.Helper()
	ring := cell.NewKeyring([16]byte{1})
	scheme := cell.Scheme{Column: 7, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 16, RowBound: true, KeyID: 3}
	dek, err := cell.NewDEK()
	if err == nil {
		err = ring.Add(scheme, dek)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ring, scheme
}

func address(row int64) cell.Address {
	return cell.Address{Column: 7, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), row)}
}

func TestEveryValueComesBackSealedForItsRow(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	values := []transform.Value{{Address: address(1), In: []byte("one")}, {Address: address(2)}, {Address: address(3), In: []byte{}}}
	if err := e.Apply(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	if values[1].Out != nil {
		t.Error("NULL did not stay NULL")
	}
	for _, i := range []int{0, 2} {
		plain, _, err := ring.Open(nil, values[i].Address, values[i].Out)
		if err != nil || !bytes.Equal(plain, values[i].In) {
			t.Errorf("value %d opens to %d bytes, %v", i, len(plain), err)
		}
		if _, _, err := ring.Open(nil, address(99), values[i].Out); err == nil {
			t.Errorf("value %d opens in another row", i)
		}
	}
}

func TestAValueThatItsCodecRefusesIsTheValuesFault(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	err = e.Apply(t.Context(), []transform.Value{{Address: address(1), In: []byte{0xff, 0xfe}}})
	if !errors.Is(err, transform.ErrValue) {
		t.Errorf("bytes that are no text gave %v", err)
	}
}

// Only an Apply that opens what it sealed can notice.
func TestWhatWasSealedIsOpenedAgainBeforeItLeaves(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	key := cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), 1)
	broken := transform.Interfere(e, func(sealed []byte) { sealed[len(sealed)-1] ^= 1 })
	if err := broken.Apply(t.Context(), []transform.Value{{Address: cell.Address{Column: 7, Key: key}, In: []byte("one")}}); err == nil {
		t.Error("a cell that was damaged in memory left the transform")
	}
}

func TestAValueNeverShowsItself(t *testing.T) {
	t.Parallel()
	v := transform.Value{Address: address(1), In: []byte("plaintext"), Out: []byte("ciphertext")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, v); got != "redacted" {
			t.Errorf("%s shows %s", format, got)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).InfoContext(context.Background(), "value", "v", v)
	if bytes.Contains(log.Bytes(), []byte("text")) {
		t.Errorf("a log shows %s", log.String())
	}
}
