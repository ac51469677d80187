package foreign

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/nacl/secretbox"
)

// LockboxOptions are the options of a Ruby attribute as the gem lockbox takes them. Either Keys or MasterKey is given.
type LockboxOptions struct {
	Keys           []Key  // the key and those of previous_versions, each of 32 bytes or 64 hexadecimal digits
	MasterKey      Key    // from which, with table and attribute, the key is derived
	Table          string // as it was named when the values were written, or key_table
	Attribute      string // likewise: the virtual attribute, or key_attribute
	Algorithm      string // aes-gcm (also when empty), xchacha20 or xsalsa20
	Padding        int    // padding: true is 16; 0 is none
	AssociatedData []byte
	Raw            bool // encode: false: a binary column
}

// Lockbox reads values of the Ruby gem lockbox (github.com/ankane/lockbox) whose type is string, text or binary. Of
// other types it returns the bytes that lockbox made of them.
type Lockbox struct {
	redacted
	o    LockboxOptions
	keys []Key
}

// NewLockbox checks the options and derives the key; what it cannot read it refuses by name.
func NewLockbox(o LockboxOptions) (*Lockbox, error) {
	if o.Algorithm == "" {
		o.Algorithm = "aes-gcm"
	}
	switch o.Algorithm {
	case "aes-gcm", "xchacha20":
	case "xsalsa20":
		if o.AssociatedData != nil {
			return nil, errors.New("read lockbox: xsalsa20 has no associated data")
		}
	default:
		return nil, fmt.Errorf("read lockbox: algorithm %q: %w", o.Algorithm, ErrUnsupported)
	}
	keys, err := o.derive()
	if err != nil {
		return nil, fmt.Errorf("read lockbox: %w", err)
	}
	return &Lockbox{o: o, keys: keys}, nil
}

func (o LockboxOptions) derive() ([]Key, error) {
	var keys []Key
	for _, k := range o.Keys {
		key, err := k.raw(32)
		if err != nil {
			return nil, err
		}
		keys = append(keys, NewKey(key))
	}
	if len(o.MasterKey.reveal()) > 0 {
		master, err := o.MasterKey.raw(32)
		if err != nil {
			return nil, err
		}
		key, err := fieldKey(master, o.Table, o.Attribute)
		if err != nil {
			return nil, err
		}
		keys = append(keys, NewKey(key))
	}
	if len(keys) == 0 {
		return nil, errors.New("no key")
	}
	return keys, nil
}

// fieldKey is the key hierarchy that lockbox took over from CipherSweet: one key for each table and field name.
func fieldKey(master []byte, table, field string) ([]byte, error) {
	if table == "" || field == "" {
		return nil, errors.New("a master key needs the names of table and field")
	}
	return hkdf.Key(sha512.New384, master, []byte(table), strings.Repeat("\xB4", 32)+field, 32)
}

// Open decrypts one value with the first key that fits. An empty one was never encrypted and comes back empty.
func (l *Lockbox) Open(ctx context.Context, v Value) ([]byte, error) {
	if err := inTime(ctx); err != nil || v.Cell == nil {
		return nil, err
	}
	if len(v.Cell) == 0 {
		return []byte{}, nil
	}
	sealed, err := v.Cell, error(nil)
	if !l.o.Raw {
		sealed, err = strict(base64.StdEncoding, string(v.Cell))
	}
	if err != nil {
		return nil, fmt.Errorf("open lockbox value: %w", err)
	}
	for _, key := range l.keys {
		var plaintext []byte
		if plaintext, err = l.open(key.reveal(), sealed); !errors.Is(err, ErrAuth) {
			return plaintext, err
		}
	}
	return nil, fmt.Errorf("open lockbox value: %w", err)
}

func (l *Lockbox) open(key, sealed []byte) ([]byte, error) {
	plaintext, err := l.decrypt(key, sealed)
	if err != nil || l.o.Padding == 0 {
		return plaintext, err
	}
	body := strings.TrimRight(string(plaintext), "\x00")
	if len(plaintext)-len(body) >= l.o.Padding || !strings.HasSuffix(body, "\x80") {
		return nil, ErrAuth
	}
	return plaintext[:len(body)-1], nil
}

func (l *Lockbox) decrypt(key, sealed []byte) ([]byte, error) {
	switch l.o.Algorithm {
	case "xsalsa20":
		if len(sealed) < 24+secretbox.Overhead {
			return nil, fmt.Errorf("%d bytes: %w", len(sealed), ErrForm)
		}
		plaintext, ok := secretbox.Open([]byte{}, sealed[24:], (*[24]byte)(sealed[:24]), (*[32]byte)(key))
		if !ok {
			return nil, ErrAuth
		}
		return plaintext, nil
	case "xchacha20":
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, fmt.Errorf("make cipher: %w", err)
		}
		return openBehindNonce(aead, sealed, l.o.AssociatedData)
	}
	if len(sealed) < 12+16 {
		return nil, fmt.Errorf("%d bytes: %w", len(sealed), ErrForm)
	}
	return openGCM(key, sealed[:12], sealed[12:], l.o.AssociatedData)
}

// openBehindNonce opens nonce ‖ ciphertext ‖ tag.
func openBehindNonce(aead cipher.AEAD, sealed, aad []byte) ([]byte, error) {
	n := aead.NonceSize()
	if len(sealed) < n+aead.Overhead() {
		return nil, fmt.Errorf("%d bytes: %w", len(sealed), ErrForm)
	}
	return opened(aead.Open(nil, sealed[:n], sealed[n:], aad))
}
