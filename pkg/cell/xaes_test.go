package cell

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha3"
	"encoding/hex"
	"testing"
)

// sealWith is XAES-256-GCM with a nonce of the caller's choice, which the package never offers.
func sealWith(t testing.TB, key, nonce, plaintext, aad []byte) []byte {
	t.Helper()
	x, err := NewXAES(key)
	if err != nil {
		t.Fatal(err)
	}
	var k subkey
	x.derive(&k, nonce)
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm.Seal(bytes.Clone(nonce), nonce[SaltSize:], plaintext, aad)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSpecificationVectors holds the two traces of https://c2sp.org/XAES-256-GCM, with their
// intermediate values: in the first the mask's carry is 0, in the second 1.
func TestSpecificationVectors(t *testing.T) {
	t.Parallel()
	nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
	plaintext := []byte("XAES-256-GCM")
	for _, v := range []struct {
		name, mask, subkey, aad, ciphertext string
		key                                 byte
	}{
		{
			name: "carry 0", key: 0x01, mask: "e531954aca063d5b8d9c47a47d4cc6f0",
			subkey:     "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
			ciphertext: "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
		},
		{
			name: "carry 1", key: 0x03, mask: "23810ec50edb99f374409466ed1f4b7b",
			subkey:     "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
			aad:        "c2sp.org/XAES-256-GCM",
			ciphertext: "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			key := bytes.Repeat([]byte{v.key}, KeySize)
			x, err := NewXAES(key)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(x.mask[:]); got != v.mask {
				t.Errorf("K1 is %s, want %s", got, v.mask)
			}
			var k subkey
			x.derive(&k, nonce)
			if got := hex.EncodeToString(k.key[:]); got != v.subkey {
				t.Errorf("Kx is %s, want %s", got, v.subkey)
			}
			message := append(bytes.Clone(nonce), unhex(t, v.ciphertext)...)
			got, err := x.Open(nil, message, []byte(v.aad))
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("opened %q, %v", got, err)
			}
			if got := sealWith(t, key, nonce, plaintext, []byte(v.aad)); !bytes.Equal(got, message) {
				t.Errorf("sealed %x, want %x", got, message)
			}
		})
	}
}

// TestAccumulatedVectors is the randomised test of https://c2sp.org/XAES-256-GCM: 10 000 inputs
// drawn from SHAKE-128 of nothing, their ciphertexts hashed with another SHAKE-128.
func TestAccumulatedVectors(t *testing.T) {
	t.Parallel()
	const want = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	source, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	draw := func(n int) []byte {
		b := make([]byte, n)
		_, _ = source.Read(b) // a SHAKE never fails
		return b
	}
	for i := range 10_000 {
		key, nonce := draw(32), draw(24)
		plaintext := draw(int(draw(1)[0]))
		aad := draw(int(draw(1)[0]))
		message := sealWith(t, key, nonce, plaintext, aad)
		_, _ = sum.Write(message[SaltSize+NonceSize:])
		x, err := NewXAES(key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.Open(nil, message, aad)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	got := make([]byte, 32)
	_, _ = sum.Read(got)
	if hex.EncodeToString(got) != want {
		t.Fatalf("hash %x, want %s", got, want)
	}
}

func TestAKeyOfAnotherLengthIsRefused(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 24, 31, 33, 64} {
		if _, err := NewXAES(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
		if _, err := DEKFromBytes(make([]byte, n)); err == nil && n != SIVKeySize {
			t.Errorf("a DEK of %d bytes was taken", n)
		}
	}
}
