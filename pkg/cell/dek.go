package cell

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// DEK is a data-encryption key of 32 bytes. The zero DEK holds no key. It prints as "redacted".
type DEK struct {
	redacted
	secret *secret
}

// secret keeps key bytes two pointers away, so that no verb of fmt prints them, not even
// from a hidden field of somebody's struct, whose methods fmt cannot call.
type secret struct {
	key *[KeySize]byte
}

// NewDEK draws a key at random.
func NewDEK() (DEK, error) {
	key := new([KeySize]byte)
	if _, err := rand.Read(key[:]); err != nil {
		return DEK{}, fmt.Errorf("draw data-encryption key: %w", err)
	}
	return DEK{secret: &secret{key}}, nil
}

// DEKFromBytes copies a key of 32 bytes.
func DEKFromBytes(key []byte) (DEK, error) {
	if len(key) != KeySize {
		return DEK{}, fmt.Errorf("read data-encryption key: %d bytes, want %d", len(key), KeySize)
	}
	own := [KeySize]byte(key)
	return DEK{secret: &secret{&own}}, nil
}

// Wipe overwrites the key. A keyring that it was added to keeps working.
func (d DEK) Wipe() {
	if d.secret != nil {
		clear(d.secret.key[:])
	}
}

func (d DEK) cipher() (*XAES, error) {
	if d.secret == nil {
		return nil, errors.New("no data-encryption key")
	}
	return NewXAES(d.secret.key[:])
}
