package foreign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
)

// Keys are the keys and passphrases of other systems, by the names that a manifest gives them. It prints as "redacted".
type Keys struct {
	redacted
	// Dial opens a key that a server keeps, by its URI. Nil: none can be opened.
	Dial func(ctx context.Context, uri string) (Unwrapper, error)

	named map[string]secretKey
}

// secretKey is one of them: the key itself, or where a server keeps it.
type secretKey struct {
	key Key
	uri string
}

// What may be wrong with a file of keys. They are wrapped: compare with errors.Is.
var (
	// ErrNoKey: there is no key of that name.
	ErrNoKey = errors.New("there is no key of that name")
	// ErrExposed: others than its owner may read or write the file.
	ErrExposed = errors.New("others than its owner may read or write it")
	// ErrKeyFile: it is not what a file of keys has to be.
	ErrKeyFile = errors.New("not a file of foreign keys")
)

const (
	keysVersion  = 1
	maxKeysBytes = 1 << 20
)

// keysFile is the form of the file: each key in exactly one notation.
type keysFile struct {
	Version int                 `json:"version"`
	Keys    map[string]keyEntry `json:"keys"`
}

type keyEntry struct {
	Text   *string `json:"text"`   // as it is, for passphrases and keys in hexadecimal digits
	Hex    *string `json:"hex"`    // of the key's bytes
	Base64 *string `json:"base64"` // likewise, with padding
	URI    *string `json:"uri"`    // of a key that never leaves its server: vault://HOST:PORT/MOUNT/KEY
}

// LoadKeys reads a file of keys, which nobody but its owner may read or write. An error names keys, and shows none.
func LoadKeys(path string) (*Keys, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the file of foreign keys: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("look at the file of foreign keys: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read %s: no regular file: %w", path, ErrKeyFile)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("read %s: %w", path, ErrExposed)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeysBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the file of foreign keys: %w", err)
	}
	keys, err := ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return keys, nil
}

// ParseKeys reads the text of such a file strictly: {"version": 1, "keys": {NAME: {"text": …}}}, with hex, base64 or uri
// in text's place. Unknown members, repeated names and empty keys are refused. No error quotes the text.
func ParseKeys(text []byte) (*Keys, error) {
	if len(text) > maxKeysBytes {
		return nil, fmt.Errorf("more than %d bytes: %w", maxKeysBytes, ErrKeyFile)
	}
	if err := onceEach(json.NewDecoder(bytes.NewReader(text))); err != nil {
		return nil, err
	}
	var file keysFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil { // what it says may quote
		return nil, fmt.Errorf("want {\"version\": 1, \"keys\": {NAME: {\"text\" | \"hex\" | \"base64\" | \"uri\": …}}} and nothing else: %w", ErrKeyFile)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something stands behind its end: %w", ErrKeyFile)
	}
	if file.Version != keysVersion {
		return nil, fmt.Errorf("version %d, want %d: %w", file.Version, keysVersion, ErrKeyFile)
	}
	keys := &Keys{named: map[string]secretKey{}}
	for _, name := range slices.Sorted(maps.Keys(file.Keys)) {
		if !IsKeyName(name) {
			return nil, fmt.Errorf("a name of a key has letters, digits, '.', '_' and '-', at most 30: %w", ErrKeyFile)
		}
		key, err := file.Keys[name].read()
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		keys.named[name] = key
	}
	return keys, nil
}

// onceEach refuses a text that is no JSON, or has a name twice in one object: one of the two would be lost silently.
func onceEach(d *json.Decoder) error {
	broken := fmt.Errorf("no JSON: %w", ErrKeyFile)
	token, err := d.Token()
	if err != nil {
		return broken
	}
	delim, nests := token.(json.Delim)
	if !nests {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if delim == '{' {
			name, err := d.Token()
			text, is := name.(string)
			if err != nil || !is {
				return broken
			}
			if seen[text] {
				return fmt.Errorf("a name stands there twice: %w", ErrKeyFile)
			}
			seen[text] = true
		}
		if err := onceEach(d); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return broken
	}
	return nil
}

func (e keyEntry) read() (k secretKey, err error) {
	var key []byte
	given := 0
	for _, form := range []struct {
		text   *string
		decode func(string) ([]byte, error)
	}{
		{e.Text, func(s string) ([]byte, error) { return []byte(s), nil }},
		{e.Hex, hex.DecodeString},
		{e.Base64, base64.StdEncoding.Strict().DecodeString},
		{e.URI, func(s string) ([]byte, error) { return []byte(s), nil }},
	} {
		if form.text == nil {
			continue
		}
		given++
		if key, err = form.decode(*form.text); err != nil {
			return k, fmt.Errorf("not in the notation that it names: %w", ErrKeyFile) // without err, which may quote
		}
	}
	switch {
	case given != 1:
		return k, fmt.Errorf("want one of text, hex, base64 and uri: %w", ErrKeyFile)
	case len(key) == 0:
		return k, fmt.Errorf("empty: %w", ErrKeyFile)
	case e.URI != nil:
		return secretKey{uri: *e.URI}, nil
	}
	return secretKey{key: NewKey(key)}, nil
}

var keyName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,30}$`)

// IsKeyName says whether a text may name a key.
func IsKeyName(name string) bool { return keyName.MatchString(name) }

// Key is the key of a name; [ErrNoKey] if there is none, or if it is kept by a server. A nil Keys has none.
func (k *Keys) Key(name string) (Key, error) {
	found, err := k.find(name)
	if err == nil && found.uri != "" {
		err = fmt.Errorf("foreign key %s is kept by a server: %w", name, ErrNoKey)
	}
	return found.key, err
}

// Remote is the key of a name that a server keeps; [ErrNoKey] if there is none, or if it is here.
func (k *Keys) Remote(ctx context.Context, name string) (Unwrapper, error) {
	found, err := k.find(name)
	switch {
	case err != nil:
		return nil, err
	case found.uri == "":
		return nil, fmt.Errorf("foreign key %s is not kept by a server: %w", name, ErrNoKey)
	case k.Dial == nil:
		return nil, fmt.Errorf("foreign key %s is kept by a server, which nobody here can ask: %w", name, ErrNoKey)
	}
	key, err := k.Dial(ctx, found.uri)
	if err != nil {
		return nil, fmt.Errorf("open foreign key %s: %w", name, err)
	}
	return key, nil
}

func (k *Keys) find(name string) (secretKey, error) {
	if k != nil {
		if found, has := k.named[name]; has {
			return found, nil
		}
	}
	return secretKey{}, fmt.Errorf("foreign key %s: %w", name, ErrNoKey)
}
