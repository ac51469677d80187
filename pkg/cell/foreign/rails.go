package foreign

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// RailsOptions are the settings of Active Record Encryption.
type RailsOptions struct {
	Keys   []Key  // primary_key, or deterministic_key for such attributes, with all earlier ones
	Salt   Key    // key_derivation_salt
	Digest string // hash_digest_class: sha256 (also when empty; Rails 7.1 and later) or sha1
}

// Rails reads attributes of Rails' Active Record Encryption in its default serialization, JSON; deterministic or not,
// compressed or not, with or without envelope encryption.
type Rails struct {
	redacted
	keys []Key
}

const railsIterations = 1 << 16 // of PBKDF2, ActiveSupport::KeyGenerator's default

// NewRails derives the keys.
func NewRails(o RailsOptions) (*Rails, error) {
	digests := map[string]func() hash.Hash{"": sha256.New, "sha256": sha256.New, "sha1": sha1.New}
	digest, ok := digests[o.Digest]
	switch {
	case !ok:
		return nil, fmt.Errorf("read Active Record Encryption: digest %q: %w", o.Digest, ErrUnsupported)
	case len(o.Keys) == 0 || len(o.Salt.reveal()) == 0:
		return nil, errors.New("read Active Record Encryption: no key or no key derivation salt")
	}
	var keys []Key
	for _, k := range o.Keys {
		key, err := pbkdf2.Key(digest, string(k.reveal()), o.Salt.reveal(), railsIterations, 32)
		if err != nil {
			return nil, fmt.Errorf("read Active Record Encryption: %w", err)
		}
		keys = append(keys, NewKey(key))
	}
	return &Rails{keys: keys}, nil
}

// railsMessage is the JSON form; []byte is base64. Members that say nothing here, like the id of the key, are skipped.
type railsMessage struct {
	Payload *string `json:"p"`
	Headers struct {
		IV         string        `json:"iv"`
		Tag        string        `json:"at"`
		Compressed bool          `json:"c"`
		Encoding   string        `json:"e"`
		DataKey    *railsMessage `json:"k"`
	} `json:"h"`
}

// Open decrypts one value.
func (r *Rails) Open(ctx context.Context, v Value) ([]byte, error) {
	if err := inTime(ctx); err != nil || v.Cell == nil {
		return nil, err
	}
	var m railsMessage
	d := json.NewDecoder(bytes.NewReader(v.Cell))
	if err := d.Decode(&m); err != nil || m.Payload == nil {
		return nil, fmt.Errorf("open Active Record value: no message in JSON: %w", ErrForm) // without err, which may quote
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("open Active Record value: more than one message: %w", ErrForm)
	}
	keys := r.keys
	if m.Headers.DataKey != nil {
		key, err := m.Headers.DataKey.open(keys)
		if err != nil {
			return nil, fmt.Errorf("open data key of Active Record value: %w", err)
		}
		keys = []Key{NewKey(key)}
	}
	plaintext, err := m.open(keys)
	if err != nil {
		return nil, fmt.Errorf("open Active Record value: %w", err)
	}
	return plaintext, nil
}

// open decrypts with the first key that fits, and decompresses.
func (m *railsMessage) open(keys []Key) ([]byte, error) {
	if err := m.checkEncoding(); err != nil {
		return nil, err
	}
	var parts [3][]byte
	for i, text := range []string{*m.payload(), m.Headers.IV, m.Headers.Tag} {
		var err error
		if parts[i], err = strict(base64.StdEncoding, text); err != nil {
			return nil, err
		}
	}
	if len(parts[2]) != 16 {
		return nil, fmt.Errorf("tag of %d bytes: %w", len(parts[2]), ErrForm)
	}
	err := ErrAuth
	for _, key := range keys {
		var plaintext []byte
		plaintext, err = openGCM(key.reveal(), parts[1], append(parts[0], parts[2]...), nil)
		if err == nil && m.Headers.Compressed {
			return inflate(plaintext)
		}
		if !errors.Is(err, ErrAuth) {
			return plaintext, err
		}
	}
	return nil, err
}

func (m *railsMessage) payload() *string {
	if m.Payload == nil {
		return new(string)
	}
	return m.Payload
}

// checkEncoding refuses text that was not UTF-8 when it was sealed.
func (m *railsMessage) checkEncoding() error {
	if m.Headers.Encoding == "" {
		return nil
	}
	name, err := strict(base64.StdEncoding, m.Headers.Encoding)
	if err != nil {
		return err
	}
	switch string(name) {
	case "UTF-8", "US-ASCII", "ASCII-8BIT", "BINARY":
		return nil
	}
	return fmt.Errorf("text in another encoding than UTF-8: %w", ErrUnsupported)
}

func inflate(compressed []byte) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("not zlib: %w", ErrForm)
	}
	plaintext, err := io.ReadAll(io.LimitReader(z, maxPlaintext+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("damaged zlib: %w", ErrForm)
	case len(plaintext) > maxPlaintext:
		return nil, fmt.Errorf("too long when decompressed: %w", ErrUnsupported)
	}
	return plaintext, nil
}
