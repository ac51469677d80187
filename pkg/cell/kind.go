package cell

import (
	"database/sql/driver"
	"fmt"
)

// Nulls is what a scheme does with NULL. It is stored, and printed, as the word for it.
type Nulls bool

// The null policies.
const (
	KeepNulls Nulls = false // keep: NULL stays NULL, and whoever sees the table sees which rows have no value
	SealNulls Nulls = true  // seal: NULL is sealed like a value
)

// String is the word for it.
func (n Nulls) String() string {
	if n {
		return "seal"
	}
	return "keep"
}

// Value is for database/sql.
func (n Nulls) Value() (driver.Value, error) { return n.String(), nil }

// Scan is for database/sql. It refuses a word that it does not know.
func (n *Nulls) Scan(from any) error {
	word, _ := from.(string)
	for _, known := range []Nulls{KeepNulls, SealNulls} {
		if word == known.String() {
			*n = known
			return nil
		}
	}
	return fmt.Errorf("null policy %.20q is unknown to this program (accepted: keep, seal)", word)
}

// The kind of what a cell holds: under a scheme that seals NULL it is the first byte of every plaintext, inside of the
// padding. A NULL has a body as long as a value of a codec of fixed width, of zeros, so that it is told neither by a flag
// nor by its length; of the other codecs none, like the empty value.
const (
	kindValue = 0
	kindNull  = 1
)

// SealsNulls says that NULL is sealed like a value.
func (s Scheme) SealsNulls() bool { return bool(s.Nulls) }

// SealsNulls says that a scheme of the column seals NULL, as far as the keyring knows them: cells of it may hold one.
func (k *Keyring) SealsNulls(column uint32) bool {
	for at, e := range *k.schemes.Load() {
		if at.column == column && e.scheme.SealsNulls() {
			return true
		}
	}
	return false
}

// kindSize is what the kind adds to a plaintext.
func (s Scheme) kindSize() int {
	if s.SealsNulls() {
		return 1
	}
	return 0
}

// appendKinded appends a plaintext, or NULL, behind its kind.
func (s Scheme) appendKinded(dst, plaintext []byte, null bool) []byte {
	switch {
	case null:
		return append(append(dst, kindNull), make([]byte, s.Codec.width())...)
	case s.SealsNulls():
		dst = append(dst, kindValue)
	}
	return append(dst, plaintext...)
}

// kinded takes the kind off and moves the plaintext into its place; it reports whether that was exactly what appendKinded
// writes.
func (s Scheme) kinded(body []byte) (plaintext []byte, null, ok bool) {
	switch {
	case !s.SealsNulls():
		return body, false, true
	case len(body) == 0 || body[0] > kindNull:
		return nil, false, false
	case body[0] == kindValue:
		return body[:copy(body, body[1:])], false, true
	}
	var rest byte
	for _, b := range body[1:] {
		rest |= b
	}
	return nil, true, rest == 0 && len(body) == 1+s.Codec.width()
}

// errKeepsNull: the scheme has no way to say NULL.
func (s Scheme) errKeepsNull() error {
	return fmt.Errorf("scheme %d of column %d seals no NULL: %w", s.Number, s.Column, ErrWire)
}

// SealNull is [Keyring.Seal] of NULL, under a scheme that seals it; under any other it fails with [ErrWire].
func (k *Keyring) SealNull(dst []byte, s Scheme, a Address) ([]byte, error) {
	return k.seal(dst, s, a, nil, true)
}

// SealNull is [Keyring.SealNull] for the sealer's scheme.
func (s *Sealer) SealNull(dst []byte, a Address) ([]byte, error) {
	return s.work.sealUnder(s.key, s.registry, s.scheme, dst, a, nil, true)
}

// OpenAndCompareNull is [Sealer.OpenAndCompare] for a cell that is to hold NULL.
func (s *Sealer) OpenAndCompareNull(a Address, cell []byte) error {
	null, err := s.compare(a, cell, nil)
	if err == nil && !null {
		err = s.differs()
	}
	return err
}
