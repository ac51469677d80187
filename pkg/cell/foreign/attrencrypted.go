package foreign

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"errors"
	"fmt"
)

// The modes of attr_encrypted.
const (
	PerAttributeIV        = "per_attribute_iv"          // the default since version 3
	PerAttributeIVAndSalt = "per_attribute_iv_and_salt" // the default of version 2
	SingleIVAndSalt       = "single_iv_and_salt"        // version 1: key and vector from the passphrase alone
)

// AttrEncryptedOptions are the options of a Ruby attribute as attr_encrypted and its gem encryptor take them.
type AttrEncryptedOptions struct {
	Mode      string // empty: PerAttributeIV
	Algorithm string // aes-256-gcm (also when empty) or aes-256-cbc
	Key       Key
	Raw       bool // encode: false, for the value
	RawIV     bool // encode_iv: false
	Marshal   bool // marshal: true; refused
	ZeroIV    bool // v2_gcm_iv: true: encryptor 2.0.0 sealed AES-GCM under a nonce of zeros
}

// AttrEncrypted reads columns of the Ruby gem attr_encrypted (github.com/attr-encrypted). It has no associated data.
type AttrEncrypted struct {
	redacted
	o AttrEncryptedOptions
}

const (
	rubyIterations  = 2000 // of PBKDF2, encryptor's hmac_iterations
	keyivIterations = 2048 // of OpenSSL's EVP_BytesToKey, as Ruby calls it
)

// NewAttrEncrypted checks the options; what it cannot read it refuses by name.
func NewAttrEncrypted(o AttrEncryptedOptions) (*AttrEncrypted, error) {
	if o.Mode == "" {
		o.Mode = PerAttributeIV
	}
	if o.Algorithm == "" {
		o.Algorithm = "aes-256-gcm"
	}
	switch {
	case o.Marshal:
		return nil, fmt.Errorf("read attr_encrypted: marshal: true (Ruby Marshal): %w", ErrUnsupported)
	case o.Mode != PerAttributeIV && o.Mode != PerAttributeIVAndSalt && o.Mode != SingleIVAndSalt:
		return nil, fmt.Errorf("read attr_encrypted: mode %q: %w", o.Mode, ErrUnsupported)
	case o.Algorithm != "aes-256-gcm" && o.Algorithm != "aes-256-cbc":
		return nil, fmt.Errorf("read attr_encrypted: algorithm %q: %w", o.Algorithm, ErrUnsupported)
	case len(o.Key.reveal()) == 0:
		return nil, errors.New("read attr_encrypted: no key")
	case o.Mode == PerAttributeIV && len(o.Key.reveal()) < 32:
		return nil, fmt.Errorf("read attr_encrypted: key of %d bytes, want 32 at least", len(o.Key.reveal()))
	}
	return &AttrEncrypted{o: o}, nil
}

// Open decrypts one value. An empty one was never encrypted and comes back empty.
func (a *AttrEncrypted) Open(ctx context.Context, v Value) ([]byte, error) {
	if err := inTime(ctx); err != nil || v.Cell == nil {
		return nil, err
	}
	if len(v.Cell) == 0 {
		return []byte{}, nil
	}
	plaintext, err := a.open(v)
	if err != nil {
		return nil, fmt.Errorf("open attr_encrypted value: %w", err)
	}
	if bytes.HasPrefix(plaintext, []byte{4, 8}) {
		return nil, fmt.Errorf("open attr_encrypted value: Ruby Marshal: %w", ErrUnsupported)
	}
	return plaintext, nil
}

func (a *AttrEncrypted) open(v Value) ([]byte, error) {
	sealed, err := v.Cell, error(nil)
	if !a.o.Raw {
		sealed, err = lines(v.Cell)
	}
	if err != nil {
		return nil, err
	}
	size := 12
	if a.o.Algorithm == "aes-256-cbc" {
		size = 16
	}
	key, iv, err := a.derive(v, size)
	if err != nil {
		return nil, err
	}
	if size == 16 {
		return openCBC(key, iv, sealed)
	}
	if a.o.ZeroIV {
		iv = make([]byte, size)
	}
	return openGCM(key, iv, sealed, nil)
}

// derive returns a key of 32 bytes and a vector of size. Longer ones are cut, as Ruby's OpenSSL did.
func (a *AttrEncrypted) derive(v Value, size int) (key, iv []byte, err error) {
	if a.o.Mode == SingleIVAndSalt {
		b := keyAndIV(a.o.Key.reveal(), 32+size)
		return b[:32], b[32:], nil
	}
	iv = v.IV
	if !a.o.RawIV {
		if iv, err = lines(v.IV); err != nil {
			return nil, nil, fmt.Errorf("initialization vector: %w", err)
		}
	}
	if len(iv) < size {
		return nil, nil, fmt.Errorf("initialization vector of %d bytes, want %d: %w", len(iv), size, ErrForm)
	}
	if a.o.Mode == PerAttributeIV {
		return a.o.Key.reveal()[:32], iv[:size], nil
	}
	salt, err := rubySalt(v.Salt)
	if err != nil {
		return nil, nil, err
	}
	key, err = pbkdf2.Key(sha1.New, string(a.o.Key.reveal()), salt, rubyIterations, 32)
	return key, iv[:size], err
}

// rubySalt reads a salt: base64 behind an underscore, or as it is.
func rubySalt(salt []byte) ([]byte, error) {
	if encoded, ok := bytes.CutPrefix(salt, []byte("_")); ok {
		return lines(encoded)
	}
	if len(salt) == 0 {
		return nil, fmt.Errorf("no salt: %w", ErrForm)
	}
	return salt, nil
}

// keyAndIV is OpenSSL's EVP_BytesToKey with MD5 and no salt.
func keyAndIV(passphrase []byte, n int) []byte {
	var out, last []byte
	for len(out) < n {
		sum := md5.Sum(append(bytes.Clone(last), passphrase...))
		for range keyivIterations - 1 {
			sum = md5.Sum(sum[:])
		}
		last = sum[:]
		out = append(out, last...)
	}
	return out[:n]
}
