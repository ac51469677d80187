package cell

import (
	"bytes"
	"errors"
	"testing"
	"testing/cryptotest"
)

// TestTheLongestValueIsTheLastOneAdmitted asks without making a value of a gigabyte.
func TestTheLongestValueIsTheLastOneAdmitted(t *testing.T) {
	t.Parallel()
	s := Scheme{Column: 7}
	a := Address{Column: 7}
	if err := s.admits(a, MaxPlaintext); err != nil {
		t.Error(err)
	}
	if err := s.admits(a, MaxPlaintext+1); !errors.Is(err, ErrTooLong) {
		t.Errorf("%v, want %v", err, ErrTooLong)
	}
	s.Padding = 64
	const largest = 1<<30 - 1 - 4 // bytes of a Postgres value, less its length word
	if got := s.SealedLength(MaxPlaintext); got > largest {
		t.Errorf("the longest cell has %d bytes, Postgres holds %d", got, largest)
	}
}

// TestSealingIsReproducible fixes the randomness: the same seed makes the same cell. It runs
// alone, because the seed holds for the whole process.
func TestSealingIsReproducible(t *testing.T) {
	s := Scheme{Column: 7, Number: 1, Suite: SuiteXAES256GCM, Codec: CodecText, Padding: 16, KeyID: 1}
	k := NewKeyring([16]byte{1})
	key, err := DEKFromBytes(make([]byte, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Add(s, key); err != nil {
		t.Fatal(err)
	}
	sealed := func(seed uint64) []byte {
		cryptotest.SetGlobalRandom(t, seed)
		c, err := k.Seal(nil, s, Address{Column: 7}, []byte("value"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := sealed(1)
	if !bytes.Equal(first, sealed(1)) {
		t.Error("the same seed makes another cell")
	}
	if bytes.Equal(first, sealed(2)) {
		t.Error("another seed makes the same cell")
	}
	nonce := first[HeaderSize : HeaderSize+SaltSize+NonceSize]
	aad := appendAAD(nil, k.registry, first, false, nil)
	want := sealWith(t, make([]byte, KeySize), nonce, appendPadding([]byte("value"), 0, 16), aad)
	if !bytes.Equal(first[HeaderSize:], want) {
		t.Error("the cell is not what its nonce and key make")
	}
}

func TestOnlyExactPaddingIsRemoved(t *testing.T) {
	t.Parallel()
	for _, block := range []int{16, 32, 64} {
		for n := range 3 * block {
			padded := appendPadding(bytes.Repeat([]byte{padMark}, n), 0, block)
			if len(padded)%block != 0 || len(padded) <= n || len(padded) > n+block {
				t.Fatalf("block %d: %d bytes padded to %d", block, n, len(padded))
			}
			if body, ok := unpad(padded, block); !ok || len(body) != n {
				t.Fatalf("block %d: %d bytes came back as %d", block, n, len(body))
			}
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":         {},
		"no mark":         make([]byte, 16),
		"another mark":    append(make([]byte, 15), 0x81),
		"a whole block":   append([]byte("0123456789abcde\x80"), make([]byte, 16)...),
		"not a multiple":  []byte("abc\x80"),
		"text at the end": []byte("0123456789abcdef"),
	} {
		if body, ok := unpad(bad, 16); ok {
			t.Errorf("%s: taken as padding of %q", name, body)
		}
	}
}
