package foreign_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
)

const someKeys = `{"version": 1, "keys": {"pins": {"text": "s3cr3t-passphrase"}, "hexed": {"hex": "7365637265742d62797465732d6f662d"}, "encoded": {"base64": "czNjcjN0"}, "kept": {"uri": "vault://h/transit/k"}}}`

// A file of keys is read if only its owner may read it, and shows none of them however it is printed.
func TestKeysComeFromAFileOfTheirOwnersAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(someKeys), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := foreign.LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pins", "hexed", "encoded"} {
		key, err := keys.Key(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", keys, keys, keys, key), fmt.Sprintf("%v %+v %#v", key, &key, key)} {
			if strings.Contains(text, "s3cr3t") || strings.Contains(text, "7365") || strings.Contains(text, "115 51") {
				t.Errorf("%s is shown: %s", name, text)
			}
		}
	}
	for _, name := range []string{"none", "kept", ""} {
		if _, err := keys.Key(name); !errors.Is(err, foreign.ErrNoKey) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"kept", "pins", "none"} { // nobody is there to ask a server
		if _, err := keys.Remote(t.Context(), name); !errors.Is(err, foreign.ErrNoKey) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := foreign.LoadKeys(path); !errors.Is(err, foreign.ErrExposed) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := foreign.LoadKeys(filepath.Dir(path)); !errors.Is(err, foreign.ErrKeyFile) {
		t.Errorf("a folder: %v", err)
	}
}

// What is not exactly such a file is refused, in words that quote nothing of it.
func TestAFileOfKeysIsReadStrictly(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":              "",
		"no JSON":            "pins: s3cr3t",
		"a list":             `["s3cr3t"]`,
		"no version":         `{"keys": {}}`,
		"a later version":    `{"version": 2, "keys": {}}`,
		"an unknown member":  `{"version": 1, "s3cr3t": {}, "keys": {}}`,
		"unknown in a key":   `{"version": 1, "keys": {"pins": {"text": "x", "s3cr3t": 1}}}`,
		"twice":              `{"version": 1, "keys": {"pins": {"text": "s3cr3t"}, "pins": {"text": "y"}}}`,
		"two notations":      `{"version": 1, "keys": {"pins": {"text": "s3cr3t", "hex": "00"}}}`,
		"no notation":        `{"version": 1, "keys": {"pins": {}}}`,
		"an empty key":       `{"version": 1, "keys": {"pins": {"text": ""}}}`,
		"bad hex":            `{"version": 1, "keys": {"pins": {"hex": "s3cr3t"}}}`,
		"bad base64":         `{"version": 1, "keys": {"pins": {"base64": "s3cr3t*"}}}`,
		"a key for its name": `{"version": 1, "keys": {"s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t": {"text": "x"}}}`,
		"a name with blanks": `{"version": 1, "keys": {"s3cr3t name": {"text": "x"}}}`,
		"something behind":   `{"version": 1, "keys": {"pins": {"text": "x"}}} s3cr3t`,
		"another object":     `{"version": 1, "keys": {}} {}`,
		"cut":                someKeys[:len(someKeys)-9],
	} {
		keys, err := foreign.ParseKeys([]byte(text))
		if !errors.Is(err, foreign.ErrKeyFile) || keys != nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(someKeys))
	f.Add([]byte(`{"version": 1, "keys": {"a": {"hex": "00"}, "a": {"hex": "01"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := foreign.ParseKeys(text)
		if (err == nil) != (keys != nil) || err != nil && !errors.Is(err, foreign.ErrKeyFile) {
			t.Errorf("%v, %v", keys, err)
		}
	})
}
