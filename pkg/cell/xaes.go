package cell

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
)

// XAES is XAES-256-GCM (c2sp.org/XAES-256-GCM) under one 256-bit key. Its messages are
// salt, nonce, ciphertext and tag: 40 bytes over the plaintext. Seal draws both halves of
// the nonce at random and leaves the second to the standard library, so it also works where
// only approved modes are allowed (GODEBUG=fips140=only). Safe for concurrent use.
type XAES struct {
	redacted
	block cipher.Block
	mask  *[aes.BlockSize]byte // CMAC subkey K1
}

// NewXAES returns the cipher for a key of 32 bytes.
func NewXAES(key []byte) (*XAES, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("make cipher: key of %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	x := &XAES{block: block, mask: new([aes.BlockSize]byte)}
	x.block.Encrypt(x.mask[:], x.mask[:])
	double(x.mask)
	return x, nil
}

// double multiplies by x in GF(2^128) as CMAC does, in constant time.
func double(b *[aes.BlockSize]byte) {
	carry := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[15] = b[15]<<1 ^ byte(subtle.ConstantTimeSelect(int(carry), 0x87, 0))
}

// subkey is the AES-GCM key that one salt picks, together with the scratch to derive it.
// It lives on the heap and is reused, because what passes through cipher.Block escapes.
type subkey struct {
	redacted
	blocks [2][aes.BlockSize]byte
	key    [KeySize]byte
	aead   cipher.AEAD // expanded from key; nil when key has no schedule yet
}

// derive sets k.key from the salt; the schedule of an earlier key is dropped.
func (x *XAES) derive(k *subkey, salt []byte) {
	for i := range k.blocks {
		b := &k.blocks[i]
		b[0], b[1], b[2], b[3] = 0, byte(i+1), 'X', 0
		copy(b[4:], salt[:SaltSize])
		subtle.XORBytes(b[:], b[:], x.mask[:])
		x.block.Encrypt(k.key[i*aes.BlockSize:], b[:])
	}
	k.aead = nil
}

// expand makes the AES-GCM instance of k.key.
func (k *subkey) expand() error {
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		return fmt.Errorf("expand subkey: %w", err)
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return fmt.Errorf("expand subkey: %w", err)
	}
	return nil
}

// seal appends salt, nonce, ciphertext and tag to dst, under a fresh subkey that stays in k.
func (x *XAES) seal(k *subkey, dst, plaintext, aad []byte) ([]byte, error) {
	start := len(dst)
	var room [SaltSize]byte
	dst = append(dst, room[:]...)
	salt := dst[start:]
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("draw salt: %w", err)
	}
	x.derive(k, salt)
	if err := k.expand(); err != nil {
		return nil, err
	}
	return k.aead.Seal(dst, nil, plaintext, aad), nil
}

// open appends the plaintext of a message to dst, or fails with ErrAuth.
func (x *XAES) open(k *subkey, dst, message, aad []byte) ([]byte, error) {
	if len(message) < SaltSize+NonceSize+TagSize {
		return nil, ErrAuth
	}
	x.derive(k, message)
	if err := k.expand(); err != nil {
		return nil, err
	}
	return k.unlock(dst, message, aad)
}

// unlock opens a message whose subkey is already expanded in k.
func (k *subkey) unlock(dst, message, aad []byte) ([]byte, error) {
	out, err := k.aead.Open(dst, nil, message[SaltSize:], aad)
	if err != nil {
		return nil, ErrAuth
	}
	return out, nil
}

// wipe forgets the subkey.
func (k *subkey) wipe() {
	clear(k.key[:])
	k.aead = nil
}

// Seal appends the message that holds plaintext to dst. dst must not overlap plaintext or aad.
func (x *XAES) Seal(dst, plaintext, aad []byte) ([]byte, error) {
	return x.seal(new(subkey), dst, plaintext, aad)
}

// Open appends the plaintext of a message to dst, or fails with ErrAuth. dst must not overlap message.
func (x *XAES) Open(dst, message, aad []byte) ([]byte, error) {
	return x.open(new(subkey), dst, message, aad)
}

// opener derives and expands the subkey that the message's salt picks; it is k itself.
func (x *XAES) opener(k *subkey, message []byte) (opener, error) {
	x.derive(k, message)
	return k, k.expand()
}

// equal reports whether both ciphers have the same key: CMAC subkeys of different keys differ.
func (x *XAES) equal(other body) bool {
	y, ok := other.(*XAES)
	return ok && subtle.ConstantTimeCompare(x.mask[:], y.mask[:]) == 1
}
