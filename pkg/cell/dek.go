package cell

import (
	"bytes"
	"crypto/fips140"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
)

// DEK is a data-encryption key, as long as its suite wants. The zero DEK holds no key. It prints as "redacted".
type DEK struct {
	redacted
	secret *secret
}

// secret keeps key bytes two pointers away, so that no verb of fmt prints them, not even
// from a hidden field of somebody's struct, whose methods fmt cannot call.
type secret struct {
	key *[]byte
}

// NewDEK draws a key of 32 bytes at random: for SuiteXAES256GCM and SuiteBlindIndex.
func NewDEK() (DEK, error) { return SuiteXAES256GCM.NewDEK() }

// NewDEK draws a key for the suite at random; it fails for a suite that this release does not know.
func (s Suite) NewDEK() (DEK, error) {
	if s.keySize() == 0 {
		return DEK{}, fmt.Errorf("draw data-encryption key: %v is unknown", s)
	}
	key := make([]byte, s.keySize())
	if _, err := rand.Read(key); err != nil {
		return DEK{}, fmt.Errorf("draw data-encryption key: %w", err)
	}
	return DEK{secret: &secret{&key}}, nil
}

// DEKFromBytes copies a key of 32 bytes, or of 64 for SuiteAES256SIV.
func DEKFromBytes(key []byte) (DEK, error) {
	if len(key) != KeySize && len(key) != SIVKeySize {
		return DEK{}, fmt.Errorf("read data-encryption key: %d bytes, want %d or %d", len(key), KeySize, SIVKeySize)
	}
	own := bytes.Clone(key)
	return DEK{secret: &secret{&own}}, nil
}

// Wipe overwrites the key. A keyring that it was added to keeps working.
func (d DEK) Wipe() {
	if d.secret != nil {
		clear(*d.secret.key)
	}
}

// fits refuses a key that is not of the suite's length.
func (d DEK) fits(s Suite) error {
	switch {
	case d.secret == nil:
		return errors.New("no data-encryption key")
	case len(*d.secret.key) != s.keySize():
		return fmt.Errorf("data-encryption key of %d bytes, %v wants %d", len(*d.secret.key), s, s.keySize())
	}
	return nil
}

// cipher makes what seals and opens the cells of a suite.
func (d DEK) cipher(s Suite) (body, error) {
	if err := d.fits(s); err != nil {
		return nil, err
	}
	if s == SuiteAES256SIV {
		if fips140.Enforced() {
			return nil, fmt.Errorf("make cipher: %v: %w", s, ErrUnapproved)
		}
		return newSIV(*d.secret.key)
	}
	return NewXAES(*d.secret.key)
}

func (d DEK) equal(other DEK) bool {
	return subtle.ConstantTimeCompare(*d.secret.key, *other.secret.key) == 1
}
