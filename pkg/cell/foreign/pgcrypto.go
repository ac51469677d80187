package foreign

import (
	"bytes"
	"context"
	"crypto/aes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// PGPSym reads what pgcrypto's pgp_sym_encrypt and pgp_sym_encrypt_bytea made, armored or not: an OpenPGP message
// under a passphrase. Messages without integrity protection (disable-mdc=1) are refused.
type PGPSym struct {
	redacted
	passphrase Key
}

// NewPGPSym returns a reader for a passphrase, the second argument of pgp_sym_encrypt.
func NewPGPSym(passphrase Key) (*PGPSym, error) {
	if len(passphrase.reveal()) == 0 {
		return nil, errors.New("read pgp_sym_encrypt: no passphrase")
	}
	return &PGPSym{passphrase: passphrase}, nil
}

// Open decrypts one value.
func (p *PGPSym) Open(ctx context.Context, v Value) ([]byte, error) {
	if err := inTime(ctx); err != nil || v.Cell == nil {
		return nil, err
	}
	plaintext, err := p.open(v.Cell)
	if err != nil {
		return nil, fmt.Errorf("open OpenPGP value: %w", err)
	}
	return plaintext, nil
}

func (p *PGPSym) open(cell []byte) ([]byte, error) {
	var message io.Reader = bytes.NewReader(cell)
	if bytes.HasPrefix(cell, []byte("-----BEGIN PGP MESSAGE")) {
		block, err := armor.Decode(message)
		if err != nil {
			return nil, fmt.Errorf("damaged armor: %w", ErrForm)
		}
		message = block.Body
	}
	asked := false
	prompt := func(_ []openpgp.Key, symmetric bool) ([]byte, error) {
		if !symmetric {
			return nil, errPublicKey
		}
		if asked {
			return nil, ErrAuth
		}
		asked = true
		return p.passphrase.reveal(), nil
	}
	opened, err := openpgp.ReadMessage(message, nil, prompt, &packet.Config{})
	if err != nil {
		return nil, pgpError(err, asked)
	}
	if !opened.IsEncrypted {
		return nil, fmt.Errorf("an OpenPGP message that is not encrypted: %w", ErrForm)
	}
	plaintext, err := io.ReadAll(io.LimitReader(opened.UnverifiedBody, maxPlaintext+1))
	switch {
	case err != nil: // the integrity check comes at the end
		return nil, pgpError(err, true)
	case len(plaintext) > maxPlaintext:
		return nil, fmt.Errorf("too long: %w", ErrUnsupported)
	}
	return plaintext, nil
}

var errPublicKey = fmt.Errorf("no passphrase opens it: it is encrypted to a public key, or its digest is too weak (MD5): %w", ErrUnsupported)

// pgpError maps what the library says, which may quote nothing but is not ours.
func pgpError(err error, asked bool) error {
	var unsupported pgperrors.UnsupportedError
	switch {
	case errors.Is(err, errPublicKey), errors.Is(err, pgperrors.ErrKeyIncorrect) && !asked:
		return errPublicKey
	case errors.As(err, &unsupported):
		return fmt.Errorf("a kind of OpenPGP message: %w", ErrUnsupported)
	case asked:
		return ErrAuth
	}
	return fmt.Errorf("no OpenPGP message: %w", ErrForm)
}

// PGRawOptions are the arguments of pgcrypto's encrypt and encrypt_iv.
type PGRawOptions struct {
	Key  Key
	Type string // aes, aes-cbc or aes-ecb, with /pad:pkcs (the default) or /pad:none
	IV   []byte // of encrypt_iv when it is the same for all rows; else Value.IV; none: zeros, as encrypt has
}

// PGRaw reads what pgcrypto's encrypt and encrypt_iv made with AES. Nothing of it is authenticated.
type PGRaw struct {
	redacted
	key Key
	iv  []byte
	ecb bool
	pad bool
}

// NewPGRaw checks the options; what it cannot read it refuses by name.
func NewPGRaw(o PGRawOptions) (*PGRaw, error) {
	algorithm, padding, _ := strings.Cut(o.Type, "/")
	switch algorithm {
	case "aes", "aes-cbc", "aes-ecb":
	default:
		return nil, fmt.Errorf("read pgcrypto: type %q: %w", o.Type, ErrUnsupported)
	}
	switch padding {
	case "", "pad:pkcs", "pad:none":
	default:
		return nil, fmt.Errorf("read pgcrypto: type %q: %w", o.Type, ErrUnsupported)
	}
	key := o.Key.reveal()
	if len(key) == 0 || len(key) > 32 {
		return nil, fmt.Errorf("read pgcrypto: key of %d bytes, want 1 to 32", len(key))
	}
	size := 16
	for size < len(key) {
		size += 8
	}
	filled := make([]byte, size) // pgcrypto fills a short key with zeros
	copy(filled, key)
	return &PGRaw{key: NewKey(filled), iv: o.IV, ecb: algorithm == "aes-ecb", pad: padding != "pad:none"}, nil
}

// Open decrypts one value.
func (p *PGRaw) Open(ctx context.Context, v Value) ([]byte, error) {
	if err := inTime(ctx); err != nil || v.Cell == nil {
		return nil, err
	}
	plaintext, err := p.open(v)
	if err != nil {
		return nil, fmt.Errorf("open pgcrypto value: %w", err)
	}
	return plaintext, nil
}

func (p *PGRaw) open(v Value) ([]byte, error) {
	iv := make([]byte, aes.BlockSize) // pgcrypto fills a short vector with zeros and cuts a long one
	if v.IV != nil {
		copy(iv, v.IV)
	} else {
		copy(iv, p.iv)
	}
	if len(v.Cell)%aes.BlockSize != 0 || len(v.Cell) == 0 && p.pad {
		return nil, fmt.Errorf("%d bytes: %w", len(v.Cell), ErrForm)
	}
	plain, err := p.decrypt(iv, v.Cell)
	if err != nil || !p.pad {
		return plain, err
	}
	return unpad(plain)
}

func (p *PGRaw) decrypt(iv, sealed []byte) ([]byte, error) {
	block, err := aes.NewCipher(p.key.reveal())
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	plain := make([]byte, len(sealed))
	for i := 0; i < len(sealed); i += aes.BlockSize {
		block.Decrypt(plain[i:], sealed[i:i+aes.BlockSize])
		for j := range aes.BlockSize {
			switch {
			case p.ecb:
			case i == 0:
				plain[i+j] ^= iv[j]
			default:
				plain[i+j] ^= sealed[i-aes.BlockSize+j]
			}
		}
	}
	return plain, nil
}
