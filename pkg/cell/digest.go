package cell

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"math/bits"
)

// DigestKey keys the digests of one column's values: who does not hold it can neither make a digest nor guess values by
// one. It is derived from a DEK: HMAC-SHA-256(DEK, "cfdigest/1" ‖ registry UUID ‖ u32 column id).
type DigestKey struct {
	redacted
	secret *secret
}

// DigestKey derives the key for the digests of a column.
func (d DEK) DigestKey(registry [16]byte, column uint32) (DigestKey, error) {
	if d.secret == nil {
		return DigestKey{}, errors.New("derive digest key: no data-encryption key")
	}
	mac := hmac.New(sha256.New, (*d.secret.key)[:])
	mac.Write([]byte("cfdigest/1"))
	mac.Write(registry[:])
	mac.Write(binary.BigEndian.AppendUint32(nil, column))
	derived, err := DEKFromBytes(mac.Sum(nil))
	return DigestKey{secret: derived.secret}, err
}

// Digest images rows one at a time. It is for one goroutine.
type Digest struct {
	redacted
	mac     hash.Hash
	message []byte
}

// New returns a digest under the key.
func (k DigestKey) New() *Digest {
	return &Digest{mac: hmac.New(sha256.New, (*k.secret.key)[:])}
}

// Row is the image of one row: HMAC-SHA-256 of the length of its encoded key as u32, the key, 00 for NULL or 01, and the
// value as it is sealed, without padding.
func (d *Digest) Row(key, value []byte) RowSum {
	d.message = binary.BigEndian.AppendUint32(d.message[:0], uint32(len(key)))
	d.message = append(d.message, key...)
	if value == nil {
		d.message = append(d.message, 0)
	} else {
		d.message = append(append(d.message, 1), value...)
	}
	d.mac.Reset()
	d.mac.Write(d.message)
	var image [sha256.Size]byte
	d.mac.Sum(image[:0])
	clear(d.message)
	var sum RowSum
	for i := range sum {
		sum[i] = binary.BigEndian.Uint64(image[8*i:])
	}
	return sum
}

// RowSum is a sum of images of rows, modulo 2^256: the same rows have the same sum in whatever order they are added.
// The first word is the highest. The zero RowSum is that of no rows.
type RowSum [4]uint64

// Add returns the sum of both.
func (s RowSum) Add(other RowSum) RowSum {
	carry := uint64(0)
	for i := len(s) - 1; i >= 0; i-- {
		s[i], carry = bits.Add64(s[i], other[i], carry)
	}
	return s
}

// String is the sum in hexadecimal: it tells nothing to whoever has no key.
func (s RowSum) String() string {
	var b []byte
	for _, word := range s {
		b = binary.BigEndian.AppendUint64(b, word)
	}
	return hex.EncodeToString(b)
}

// Nonce is what must differ in every cell of a randomized suite under one key, with the key's id in front.
type Nonce [4 + SaltSize + NonceSize]byte

// NonceOf returns the nonce of a cell; false for what is no cell, or a cell of a suite without nonces.
func NonceOf(cell []byte) (n Nonce, ok bool) {
	h, err := Parse(cell)
	if err != nil || h.Suite != SuiteXAES256GCM {
		return n, false
	}
	binary.BigEndian.PutUint32(n[:], h.KeyID)
	copy(n[4:], cell[HeaderSize:])
	return n, true
}
