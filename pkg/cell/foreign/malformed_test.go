package foreign_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
)

// TestMalformedValuesAreRefused: each is what no writer of the format makes.
func TestMalformedValuesAreRefused(t *testing.T) {
	t.Parallel()
	gcm, box := gcmValue(t), lockboxValue(t)
	text := string(box.value.Cell)
	salted := attr(t, foreign.AttrEncryptedOptions{Mode: foreign.PerAttributeIVAndSalt, Key: key("k")})
	salsa, err := foreign.NewLockbox(foreign.LockboxOptions{Keys: []foreign.Key{key(lockboxKey)}, Algorithm: "xsalsa20", Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	r := rails(t, "", railsPrimary)
	var sweetKey, sweetName string
	for master, rows := range sweets() {
		sweetKey, sweetName = master, rows[0][0]
	}
	for name, c := range map[string]sample{
		"attr_encrypted without vector":      {gcm.reader, foreign.Value{Cell: gcm.value.Cell}},
		"attr_encrypted with a short vector": {gcm.reader, foreign.Value{Cell: gcm.value.Cell, IV: []byte("ZGVmZ2hpamts")}},
		"attr_encrypted without salt":        {salted, foreign.Value{Cell: gcm.value.Cell, IV: gcm.value.IV}},
		"attr_encrypted of no base64":        {gcm.reader, foreign.Value{Cell: []byte("Fido the Dog"), IV: gcm.value.IV}},
		"attr_encrypted, too short":          {gcm.reader, foreign.Value{Cell: []byte("Zm9v"), IV: gcm.value.IV}},
		"lockbox with a line break":          {box.reader, foreign.Value{Cell: []byte(text[:40] + "\n" + text[40:])}},
		"lockbox with stray bits":            {box.reader, foreign.Value{Cell: []byte(strings.Replace(text, "A==", "B==", 1))}},
		"lockbox without padding characters": {box.reader, foreign.Value{Cell: []byte(strings.TrimRight(text, "="))}},
		"lockbox, too short":                 {box.reader, foreign.Value{Cell: []byte(base64.StdEncoding.EncodeToString(make([]byte, 27)))}},
		"xsalsa20, too short":                {salsa, foreign.Value{Cell: make([]byte, 39)}},
		"Rails without payload":              {r, foreign.Value{Cell: []byte(`{"h":{"iv":"ZGVmZ2hpamtsbW5v","at":"BXsGkLi2LZ0QmiYUh2kEMQ=="}}`)}},
		"Rails with two messages":            {r, foreign.Value{Cell: []byte(railsCell + railsCell)}},
		"Rails with a short tag":             {r, foreign.Value{Cell: []byte(`{"p":"fjxURSEiO774DAKq7CTZvw==","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"pffN9/7HfEcA7ylrkZCP"}}`)}},
		"Rails with a short vector":          {r, foreign.Value{Cell: []byte(`{"p":"fjxURSEiO774DAKq7CTZ","h":{"iv":"ZGVm","at":"v6X3zff+x3xHAO8pa5GQjw=="}}`)}},
		"a number from Rails":                {r, foreign.Value{Cell: []byte("42")}},
		"CipherSweet, a name as number":      {sweet(t, sweetKey, "name", "int"), foreign.Value{Cell: []byte(sweetName)}},
		"CipherSweet, no backend":            {sweet(t, sweetKey, "name", ""), foreign.Value{Cell: []byte("none:" + sweetName[5:])}},
		"CipherSweet, only a backend":        {sweet(t, sweetKey, "name", ""), foreign.Value{Cell: []byte(sweetName[:5])}},
		"OpenPGP in the clear":               {pgp(t, "k"), foreign.Value{Cell: []byte("\xcb\x0bt\x00\x00\x00\x00\x00hello")}},
		"OpenPGP, nothing":                   {pgp(t, "k"), foreign.Value{Cell: []byte{}}},
		"OpenPGP, a broken armor":            {pgp(t, "k"), foreign.Value{Cell: []byte("-----BEGIN PGP MESSAGE-----\n\nhello")}},
		"pgcrypto, not in blocks":            {rawAES(t), foreign.Value{Cell: make([]byte, 17)}},
		"pgcrypto, nothing":                  {rawAES(t), foreign.Value{Cell: []byte{}}},
	} {
		if got, err := c.reader.Open(t.Context(), c.value); !errors.Is(err, foreign.ErrForm) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func rawAES(t testing.TB) *foreign.PGRaw {
	t.Helper()
	r, err := foreign.NewPGRaw(foreign.PGRawOptions{Key: key("0123456789abcdef0123456789abcdef"), Type: "aes-cbc"})
	return must(t, r, err)
}

// TestOnlyExactPaddingIsTaken encrypts blocks that end in every kind of wrong padding, and in every right one.
func TestOnlyExactPaddingIsTaken(t *testing.T) {
	t.Parallel()
	k := []byte("0123456789abcdef0123456789abcdef")
	a := attr(t, foreign.AttrEncryptedOptions{Algorithm: "aes-256-cbc", Key: foreign.NewKey(k), Raw: true, RawIV: true})
	encrypt := func(plain []byte) foreign.Value {
		block, err := aes.NewCipher(k)
		if err != nil {
			t.Fatal(err)
		}
		sealed := make([]byte, len(plain))
		cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(sealed, plain)
		return foreign.Value{Cell: sealed, IV: make([]byte, 16)}
	}
	for n := range 256 {
		for name, plain := range map[string][]byte{
			"right": append(bytes.Repeat([]byte{'x'}, 32-n%33), bytes.Repeat([]byte{byte(n)}, n%33)...),
			"alone": append(bytes.Repeat([]byte{'x'}, 31), byte(n)),
		} {
			want := name == "right" && n >= 1 && n <= 16 || n == 1
			for _, r := range []reader{a, rawAES(t)} {
				got, err := r.Open(t.Context(), encrypt(plain))
				if want && (err != nil || len(got) != 32-n) || !want && (!errors.Is(err, foreign.ErrAuth) || got != nil) {
					t.Errorf("%s padding of %d: %q, %v", name, n, got, err)
				}
			}
		}
	}
}
