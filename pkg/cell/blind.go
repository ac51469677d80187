package cell

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
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
	state atomic.Pointer[blinding] // replaced as a whole, never changed in place
}

// blinding is an index key and its terms, or the reason why there is none any more.
type blinding struct {
	key   DEK
	macs  *sync.Pool // of *blindWork
	terms terms
	gone  error
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
	b := &Blinder{index: index}
	b.state.Store(newBlinding(registry, index, key, terms{}))
	return b, nil
}

// newBlinding is a key of an index that was looked at, in memory of its own.
func newBlinding(registry [16]byte, index BlindIndex, key DEK, t terms) *blinding {
	prefix := append([]byte(blindLabel), registry[:]...)
	prefix = binary.BigEndian.AppendUint32(prefix, index.Column)
	prefix = binary.BigEndian.AppendUint32(prefix, index.Number)
	prefix = append(prefix, byte(index.Normaliser))
	own := append([]byte(nil), *key.secret.key...)
	x := &blinding{key: DEK{secret: &secret{&own}}, macs: new(sync.Pool), terms: t}
	x.macs.New = func() any {
		return &blindWork{mac: hmac.New(sha256.New, own), message: append([]byte(nil), prefix...), prefix: len(prefix)}
	}
	return x
}

// use returns the key while it may be used. Its error wraps ErrKeyRevoked, ErrKeyDestroyed, ErrKeyRetired or ErrKeyExpired.
func (b *Blinder) use() (*blinding, error) {
	x := b.state.Load()
	switch {
	case x.gone != nil:
		return nil, x.gone
	case x.terms.now != nil && !x.terms.now().Before(x.terms.until):
		return nil, ErrKeyExpired
	}
	return x, nil
}

// Index returns what the tokens are of.
func (b *Blinder) Index() BlindIndex { return b.index }

// Token appends to dst the token of a value, given as the plaintext that Codec.Encode makes of it. A nil plaintext is
// NULL and has the token NULL: nil, whatever dst is. A plaintext that is not of the normaliser's type is an ErrWire; a key
// that was taken away is one of the errors of keys.
func (b *Blinder) Token(dst, plaintext []byte) ([]byte, error) {
	if plaintext == nil {
		return nil, nil
	}
	x, err := b.use()
	if err != nil {
		return nil, fmt.Errorf("index value of column %d: %w", b.index.Column, err)
	}
	w := x.macs.Get().(*blindWork)
	defer x.macs.Put(w)
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

// MarkToken is a token as a writer sends it who has made it of the very value whose cell it writes: behind one byte more,
// which the table's triggers take off. Nil stays nil.
func MarkToken(token []byte) []byte {
	if token == nil {
		return nil
	}
	return append([]byte{1}, token...)
}
