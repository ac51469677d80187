package foreign

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// CipherSweetOptions name one field.
type CipherSweetOptions struct {
	Key   Key    // of the key provider, 32 bytes or 64 hexadecimal digits
	Table string // as the PHP code names it
	Field string // likewise
	Type  string // string (also when empty), json, int, float or bool, with a question mark in front if optional
}

// CipherSweet reads fields of the PHP library CipherSweet (github.com/paragonie/ciphersweet) of any of its three
// backends, sealed without associated data. Numbers and booleans become Postgres's text for them.
type CipherSweet struct {
	redacted
	kind string
	key  Key
}

// NewCipherSweet derives the field's key.
func NewCipherSweet(o CipherSweetOptions) (*CipherSweet, error) {
	kind := strings.TrimPrefix(o.Type, "?")
	switch kind {
	case "", "string", "json", "int", "float", "bool":
	default:
		return nil, fmt.Errorf("read CipherSweet: type %q: %w", o.Type, ErrUnsupported)
	}
	master, err := o.Key.raw(32)
	if err != nil {
		return nil, fmt.Errorf("read CipherSweet: %w", err)
	}
	key, err := fieldKey(master, o.Table, o.Field)
	if err != nil {
		return nil, fmt.Errorf("read CipherSweet: %w", err)
	}
	return &CipherSweet{kind: kind, key: NewKey(key)}, nil
}

// Open decrypts one value; its first five characters say which backend made it. A boolean that is null comes back as NULL.
func (c *CipherSweet) Open(ctx context.Context, v Value) ([]byte, error) {
	if err := inTime(ctx); err != nil || v.Cell == nil {
		return nil, err
	}
	backends := map[string]func(key, sealed []byte) ([]byte, error){"nacl:": openModern, "fips:": openFIPS, "brng:": openBoring}
	open, ok := backends[string(v.Cell[:min(5, len(v.Cell))])]
	if !ok {
		return nil, fmt.Errorf("open CipherSweet value: no backend's name: %w", ErrForm)
	}
	sealed, err := strict(base64.RawURLEncoding, strings.TrimRight(string(v.Cell[5:]), "="))
	if err != nil {
		return nil, fmt.Errorf("open CipherSweet value: %w", err)
	}
	plaintext, err := open(c.key.reveal(), sealed)
	if err != nil {
		return nil, fmt.Errorf("open CipherSweet value: %w", err)
	}
	return c.text(plaintext)
}

// openModern is XChaCha20-Poly1305; the nonce is authenticated once more.
func openModern(key, sealed []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return openBehindNonce(aead, sealed, sealed[:min(chacha20poly1305.NonceSizeX, len(sealed))])
}

// openFIPS is AES-256-CTR, then HMAC-SHA-384, under keys of the message's own.
func openFIPS(key, sealed []byte) ([]byte, error) {
	const saltSize, nonceSize, tagSize = 32, 16, 48
	if len(sealed) < saltSize+nonceSize+tagSize {
		return nil, fmt.Errorf("%d bytes: %w", len(sealed), ErrForm)
	}
	salt, nonce := sealed[:saltSize], sealed[saltSize:saltSize+nonceSize]
	tag, ciphertext := sealed[saltSize+nonceSize:][:tagSize], sealed[saltSize+nonceSize+tagSize:]
	encryption, err := hkdf.Key(sha512.New384, key, salt, "AES-256-CTR", 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	integrity, err := hkdf.Key(sha512.New384, key, salt, "HMAC-SHA-384", 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	mac := hmac.New(sha512.New384, integrity)
	_, _ = mac.Write(packed([]byte("fips:"), salt, nonce, ciphertext)) // a hash never fails
	if !hmac.Equal(mac.Sum(nil), tag) {
		return nil, ErrAuth
	}
	block, err := aes.NewCipher(encryption)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	plaintext := make([]byte, len(ciphertext))
	cipher.NewCTR(block, nonce).XORKeyStream(plaintext, ciphertext)
	return plaintext, nil
}

// packed is Util::pack: the number of pieces, and each piece behind its length, in little-endian order.
func packed(pieces ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(pieces)))
	for _, p := range pieces {
		b = append(binary.LittleEndian.AppendUint64(b, uint64(len(p))), p...)
	}
	return b
}

// openBoring is XChaCha20, then keyed BLAKE2b over the parts with their lengths in decimal.
func openBoring(key, sealed []byte) ([]byte, error) {
	const nonceSize, tagSize = chacha20.NonceSizeX, 32
	if len(sealed) < nonceSize+tagSize {
		return nil, fmt.Errorf("%d bytes: %w", len(sealed), ErrForm)
	}
	nonce, tag, ciphertext := sealed[:nonceSize], sealed[nonceSize:nonceSize+tagSize], sealed[nonceSize+tagSize:]
	integrity, err := blake(key, []byte("message-integrity"))
	if err != nil {
		return nil, err
	}
	mac, err := blake(integrity, []byte("brng:"), nonce, []byte("0"), strconv.AppendInt(nil, int64(len(ciphertext)), 10), ciphertext)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, tag) {
		return nil, ErrAuth
	}
	encryption, err := blake(key, []byte("message-encryption"))
	if err != nil {
		return nil, err
	}
	stream, err := chacha20.NewUnauthenticatedCipher(encryption, nonce)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	plaintext := make([]byte, len(ciphertext))
	stream.XORKeyStream(plaintext, ciphertext)
	return plaintext, nil
}

func blake(key []byte, parts ...[]byte) ([]byte, error) {
	h, err := blake2b.New256(key)
	if err != nil {
		return nil, fmt.Errorf("make hash: %w", err)
	}
	_, _ = h.Write(bytes.Join(parts, nil)) // a hash never fails
	return h.Sum(nil), nil
}

// text returns what Postgres reads for the field's type.
func (c *CipherSweet) text(plaintext []byte) ([]byte, error) {
	width := map[string]int{"int": 8, "float": 8, "bool": 1}[c.kind]
	if width != 0 && len(plaintext) != width {
		return nil, fmt.Errorf("open CipherSweet value: %d bytes, but a %s has %d: %w", len(plaintext), c.kind, width, ErrForm)
	}
	switch c.kind {
	case "int":
		return strconv.AppendInt(nil, int64(binary.LittleEndian.Uint64(plaintext)), 10), nil
	case "float":
		return floatText(math.Float64frombits(binary.LittleEndian.Uint64(plaintext))), nil
	case "bool":
		return boolText(plaintext[0])
	}
	return plaintext, nil
}

func floatText(f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return []byte("Infinity")
	case math.IsInf(f, -1):
		return []byte("-Infinity")
	}
	return strconv.AppendFloat(nil, f, 'g', -1, 64)
}

func boolText(b byte) ([]byte, error) {
	switch b {
	case 0:
		return nil, nil
	case 1:
		return []byte("false"), nil
	case 2:
		return []byte("true"), nil
	}
	return nil, errors.Join(errors.New("open CipherSweet value: no boolean"), ErrForm)
}
