// Package foreign opens values that other systems have encrypted, so that a column can move away from them.
//
// A reader is one system's format together with its keys and options; it only ever decrypts. A value is what that
// system keeps of one field: its cell, and for some an initialization vector and a salt in columns of their own. What
// a reader returns is the plaintext as that system's users see it, in text or bytes. A format that authenticates is
// held to it; one that does not (CBC) can be opened with a wrong key without anybody noticing, so what it yields must
// be looked at. What no reader here can open with certainty (Ruby's Marshal, unknown ciphers) is refused by name.
//
// Nothing here takes part in sealing: the package is for transforms whose source is somebody else's column.
package foreign

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// What may be wrong with a value. They are wrapped: compare with errors.Is.
var (
	// ErrForm: the bytes are not of the reader's format; they may be plaintext.
	ErrForm = errors.New("not a value of this format")
	// ErrAuth: the value is altered, or the key is another.
	ErrAuth = errors.New("value does not open")
	// ErrUnsupported: the value is of a kind that this package refuses; the error names it.
	ErrUnsupported = errors.New("not supported")
)

// maxPlaintext is the longest plaintext in bytes, also after decompression: what a Postgres value can hold.
const maxPlaintext = 1<<30 - 1

// Value is one encrypted field. It prints as "redacted".
type Value struct {
	redacted
	Cell []byte // nil is NULL, whose plaintext is NULL
	IV   []byte // from a column of its own, where the format has one
	Salt []byte // likewise
}

// Key is a key or a passphrase. The zero Key is none. It prints as "redacted".
type Key struct {
	redacted
	secret *secret
}

// secret keeps key bytes two pointers away: some verbs of fmt follow the first.
type secret struct{ bytes *[]byte }

// NewKey copies a key.
func NewKey(key []byte) Key {
	own := bytes.Clone(key)
	return Key{secret: &secret{&own}}
}

func (k Key) reveal() []byte {
	if k.secret == nil {
		return nil
	}
	return *k.secret.bytes
}

// raw returns a key of n bytes that may be written as 2n hexadecimal digits.
func (k Key) raw(n int) ([]byte, error) {
	key := k.reveal()
	if len(key) == 2*n {
		if decoded, err := hex.DecodeString(string(key)); err == nil {
			return decoded, nil
		}
	}
	if len(key) != n {
		return nil, fmt.Errorf("key of %d bytes, want %d or as many hexadecimal digit pairs", len(key), n)
	}
	return key, nil
}

// redacted keeps a type that holds a key or a value out of logs and formatted text.
type redacted struct{}

// String hides the value.
func (redacted) String() string { return "redacted" }

// Format hides the value whatever the verb.
func (redacted) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "redacted") }

// LogValue hides the value from slog.
func (redacted) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalJSON hides the value from encoding/json.
func (redacted) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }

// lines decodes base64 as Ruby's pack("m") writes it: padded, with a line break after every sixty characters.
func lines(text []byte) ([]byte, error) {
	plain := strings.NewReplacer("\n", "", "\r", "").Replace(strings.TrimSpace(string(text)))
	return strict(base64.StdEncoding, plain)
}

func strict(encoding *base64.Encoding, text string) ([]byte, error) {
	b, err := encoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // Go's decoder overlooks line breaks
		return nil, fmt.Errorf("no base64: %w", ErrForm)
	}
	return b, nil
}

// openGCM opens ciphertext ‖ tag under AES-GCM.
func openGCM(key, nonce, sealed, aad []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	if len(nonce) != gcm.NonceSize() || len(sealed) < gcm.Overhead() {
		return nil, fmt.Errorf("nonce of %d bytes, ciphertext of %d: %w", len(nonce), len(sealed), ErrForm)
	}
	return opened(gcm.Open(nil, nonce, sealed, aad))
}

// opened maps the result of an AEAD: never nil on success, and no other error than ErrAuth.
func opened(plaintext []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, ErrAuth
	}
	if plaintext == nil {
		plaintext = []byte{}
	}
	return plaintext, nil
}

// openCBC decrypts AES-CBC with PKCS #7 padding. A wrong key goes unnoticed once in about 256 times.
func openCBC(key, iv, sealed []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	if len(iv) != aes.BlockSize || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("initialization vector of %d bytes, ciphertext of %d: %w", len(iv), len(sealed), ErrForm)
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, sealed)
	return unpad(plain)
}

func unpad(plain []byte) ([]byte, error) {
	n := int(plain[len(plain)-1])
	if n == 0 || n > aes.BlockSize || n > len(plain) || !bytes.Equal(plain[len(plain)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, ErrAuth
	}
	return plain[:len(plain)-n], nil
}

// inTime stops before work for a caller who has gone.
func inTime(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("open value: %w", err)
	}
	return nil
}
