package cell

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
)

const (
	blindLabel = "cfbidx/1"
	// BlindSize is the length in bytes of a token that may be unique: two different values of eight billion share
	// one with a chance of 2⁻⁶³.
	BlindSize = 16
)

// BlindIndex is one searchable shadow of a column: a column of tokens, one for each value. It never changes; another
// key, normaliser or length is another index, in another column. The zero BlindIndex is invalid.
type BlindIndex struct {
	Column     uint32 // column id, from 1: whose values are indexed
	Number     uint32 // index id within the registry, from 1, never used again
	Normaliser Normaliser
	Length     int // of a token, in bytes: 1 to 32; below BlindSize different values may share a token, so never UNIQUE
}

// Validate names the first field that is not of the format.
func (i BlindIndex) Validate() error {
	var what string
	switch {
	case i.Column == 0:
		what = "column id must not be 0"
	case i.Number == 0:
		what = "index id must not be 0"
	case !i.Normaliser.known():
		what = fmt.Sprintf("%v is unknown", i.Normaliser)
	case i.Length < 1 || i.Length > sha256.Size:
		what = fmt.Sprintf("tokens of %d bytes (accepted: 1 to %d)", i.Length, sha256.Size)
	}
	if what != "" {
		return fmt.Errorf("validate blind index %d of column %d: %s", i.Number, i.Column, what)
	}
	return nil
}

// Unique reports whether two different values never share a token in practice, so that a UNIQUE index means what it says.
func (i BlindIndex) Unique() bool { return i.Length >= BlindSize }

// Blinder makes the tokens of one blind index. It is safe for concurrent use and prints as "redacted".
type Blinder struct {
	redacted
	index BlindIndex
	macs  *sync.Pool // of *blindWork
}

// blindWork is an HMAC under the index key and the room for one message.
type blindWork struct {
	mac     hash.Hash
	message []byte
	prefix  int // of message: all that is the same for every value
}

// NewBlinder returns what makes the tokens of an index under key, which is a DEK of SuiteBlindIndex.
func NewBlinder(registry [16]byte, index BlindIndex, key DEK) (*Blinder, error) {
	if err := index.Validate(); err != nil {
		return nil, fmt.Errorf("open blind index: %w", err)
	}
	if err := key.fits(SuiteBlindIndex); err != nil {
		return nil, fmt.Errorf("open blind index %d of column %d: %w", index.Number, index.Column, err)
	}
	prefix := append([]byte(blindLabel), registry[:]...)
	prefix = binary.BigEndian.AppendUint32(prefix, index.Column)
	prefix = binary.BigEndian.AppendUint32(prefix, index.Number)
	prefix = append(prefix, byte(index.Normaliser))
	own := append([]byte(nil), *key.secret.key...)
	b := &Blinder{index: index, macs: new(sync.Pool)}
	b.macs.New = func() any {
		return &blindWork{mac: hmac.New(sha256.New, own), message: append([]byte(nil), prefix...), prefix: len(prefix)}
	}
	return b, nil
}

// Index returns what the tokens are of.
func (b *Blinder) Index() BlindIndex { return b.index }

// Token appends to dst the token of a value, given as the plaintext that Codec.Encode makes of it. A nil plaintext is
// NULL and has the token NULL: nil, whatever dst is. A plaintext that is not of the normaliser's type is an ErrWire.
func (b *Blinder) Token(dst, plaintext []byte) ([]byte, error) {
	if plaintext == nil {
		return nil, nil
	}
	w := b.macs.Get().(*blindWork)
	defer b.macs.Put(w)
	message, err := b.index.Normaliser.append(w.message[:w.prefix], plaintext)
	if err != nil {
		return nil, fmt.Errorf("index value of column %d: %w", b.index.Column, err)
	}
	w.message = message
	defer clear(message[w.prefix:])
	w.mac.Reset()
	_, _ = w.mac.Write(message) // a hash never fails
	var sum [sha256.Size]byte
	return append(dst, w.mac.Sum(sum[:0])[:b.index.Length]...), nil
}
