package cell

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	siv "github.com/tink-crypto/tink-go/v2/daead/subtle"
)

// aesSIV is AES-SIV-CMAC of RFC 5297 under one key of 64 bytes, with the associated data as its one component: what
// Tink calls AES-SIV without prefix. A message is the synthetic nonce, which is also its tag, and the ciphertext.
type aesSIV struct {
	redacted
	cipher *siv.AESSIV
	print  *[sha256.Size]byte // tells keys apart
}

func newSIV(key []byte) (*aesSIV, error) {
	own := append([]byte(nil), key...) // the cipher keeps the slice, a caller may wipe it
	cipher, err := siv.NewAESSIV(own)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	sum := sha256.Sum256(key)
	return &aesSIV{cipher: cipher, print: &sum}, nil
}

func (s *aesSIV) seal(_ *subkey, dst, plaintext, aad []byte) ([]byte, error) {
	message, err := s.cipher.EncryptDeterministically(plaintext, aad)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return append(dst, message...), nil
}

func (s *aesSIV) opener(*subkey, []byte) (opener, error) { return s, nil }

func (s *aesSIV) unlock(dst, message, aad []byte) ([]byte, error) {
	plaintext, err := s.cipher.DecryptDeterministically(message, aad)
	if err != nil {
		return nil, ErrAuth
	}
	defer clear(plaintext)
	return append(dst, plaintext...), nil
}

func (s *aesSIV) equal(other body) bool {
	o, ok := other.(*aesSIV)
	return ok && subtle.ConstantTimeCompare(s.print[:], o.print[:]) == 1
}
