package cell

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// DEK is a data-encryption key of 32 bytes. The zero DEK holds no key. It prints as "redacted".
type DEK struct {
	redacted
	key *[KeySize]byte // behind a pointer, so that not even a struct that holds a DEK prints it
}

// NewDEK draws a key at random.
func NewDEK() (DEK, error) {
	d := DEK{key: new([KeySize]byte)}
	if _, err := rand.Read(d.key[:]); err != nil {
		return DEK{}, fmt.Errorf("draw data-encryption key: %w", err)
	}
	return d, nil
}

// DEKFromBytes copies a key of 32 bytes.
func DEKFromBytes(key []byte) (DEK, error) {
	if len(key) != KeySize {
		return DEK{}, fmt.Errorf("read data-encryption key: %d bytes, want %d", len(key), KeySize)
	}
	d := DEK{key: new([KeySize]byte)}
	copy(d.key[:], key)
	return d, nil
}

// Wipe overwrites the key. A keyring that it was added to keeps working.
func (d DEK) Wipe() {
	if d.key != nil {
		clear(d.key[:])
	}
}

func (d DEK) cipher() (*XAES, error) {
	if d.key == nil {
		return nil, errors.New("no data-encryption key")
	}
	return NewXAES(d.key[:])
}
