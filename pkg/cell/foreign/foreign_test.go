package foreign_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/nacl/secretbox"

	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
)

// samples has one authenticated value of each format.
func samples(t testing.TB) map[string]sample {
	t.Helper()
	all := map[string]sample{
		"attr_encrypted": gcmValue(t),
		"lockbox":        lockboxValue(t),
		"Rails":          {rails(t, "", railsPrimary), foreign.Value{Cell: []byte(railsCell)}},
		"pgp_sym":        {pgp(t, "a passphrase"), foreign.Value{Cell: unhex(t, readPGCrypto(t).PGP[0].Cell)}},
	}
	for master, rows := range sweets() {
		all["CipherSweet "+rows[0][0][:4]] = sample{sweet(t, master, "name", ""), foreign.Value{Cell: []byte(rows[0][0])}}
	}
	return all
}

// TestAnAlteredValueNeverOpens alters, cuts and lengthens each value at every byte.
func TestAnAlteredValueNeverOpens(t *testing.T) {
	t.Parallel()
	for name, s := range samples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, err := s.reader.Open(t.Context(), s.value)
			if err != nil || len(good) == 0 {
				t.Fatal(err)
			}
			try := func(what string, cell []byte) {
				v := s.value
				v.Cell = cell
				got, err := s.reader.Open(t.Context(), v)
				known := errors.Is(err, foreign.ErrAuth) || errors.Is(err, foreign.ErrForm) || errors.Is(err, foreign.ErrUnsupported)
				switch {
				case err == nil && !bytes.Equal(got, good): // white space between lines and the like may change
					t.Errorf("%s: opens as %q", what, got)
				case err != nil && (!known || got != nil || strings.Contains(err.Error(), string(good))):
					t.Errorf("%s: %q, %v", what, got, err)
				}
			}
			for i := range s.value.Cell {
				for _, bit := range []byte{1, 4, 0x80} {
					bad := bytes.Clone(s.value.Cell)
					bad[i] ^= bit
					try(fmt.Sprintf("byte %d altered", i), bad)
				}
				if i > 0 {
					try(fmt.Sprintf("cut to %d", i), s.value.Cell[:i])
				}
			}
			try("longer", append(bytes.Clone(s.value.Cell), 'A'))
			try("plaintext", []byte("alice@example.com"))
		})
	}
}

func TestNullStaysNullAndCallersWhoLeftGetNothing(t *testing.T) {
	t.Parallel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, s := range samples(t) {
		if got, err := s.reader.Open(t.Context(), foreign.Value{}); got != nil || err != nil {
			t.Errorf("%s: NULL is %q, %v", name, got, err)
		}
		if got, err := s.reader.Open(gone, s.value); got != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: cancelled: %q, %v", name, got, err)
		}
	}
	raw, err := foreign.NewPGRaw(foreign.PGRawOptions{Key: key("k"), Type: "aes"})
	if got, err := must(t, raw, err).Open(t.Context(), foreign.Value{}); got != nil || err != nil {
		t.Errorf("NULL is %q, %v", got, err)
	}
	if got, err := foreign.NewTransit(nil).Open(t.Context(), foreign.Value{}); got != nil || err != nil {
		t.Errorf("NULL is %q, %v", got, err)
	}
}

// TestLockboxCiphers seals with the same libraries that lockbox's other algorithms stand for.
func TestLockboxCiphers(t *testing.T) {
	t.Parallel()
	k, nonce := make([]byte, 32), make([]byte, 24)
	_, _ = rand.Read(k) // never fails
	aead, err := chacha20poly1305.NewX(k)
	if err != nil {
		t.Fatal(err)
	}
	x := aead.Seal(bytes.Clone(nonce), nonce, []byte("value\x80\x00\x00"), []byte("aad"))
	s := secretbox.Seal(bytes.Clone(nonce), []byte("value"), (*[24]byte)(nonce), (*[32]byte)(k))
	for _, c := range []struct {
		o    foreign.LockboxOptions
		cell []byte
		want string
	}{
		{foreign.LockboxOptions{Algorithm: "xchacha20", AssociatedData: []byte("aad"), Padding: 8, Raw: true}, x, "value"},
		{foreign.LockboxOptions{Algorithm: "xchacha20", AssociatedData: []byte("aad")}, []byte(base64.StdEncoding.EncodeToString(x)), "value\x80\x00\x00"},
		{foreign.LockboxOptions{Algorithm: "xchacha20", AssociatedData: []byte("aad"), Padding: 2, Raw: true}, x, ""},
		{foreign.LockboxOptions{Algorithm: "xchacha20", Raw: true}, x, ""},
		{foreign.LockboxOptions{Algorithm: "xsalsa20", Raw: true}, s, "value"},
		{foreign.LockboxOptions{Algorithm: "xsalsa20", Padding: 16, Raw: true}, s, ""},
	} {
		c.o.Keys = []foreign.Key{foreign.NewKey(k)}
		r, err := foreign.NewLockbox(c.o)
		got, openErr := must(t, r, err).Open(t.Context(), foreign.Value{Cell: c.cell})
		if c.want != "" && (openErr != nil || string(got) != c.want) || c.want == "" && (!errors.Is(openErr, foreign.ErrAuth) || got != nil) {
			t.Errorf("%s, padding %d: %q, %v", c.o.Algorithm, c.o.Padding, got, openErr)
		}
	}
}

// TestADerivedLockboxKeyOpens: the master key with the right names only.
func TestADerivedLockboxKeyOpens(t *testing.T) {
	t.Parallel()
	k, nonce := unhex(t, lockboxKey), make([]byte, 24)
	aead, err := chacha20poly1305.NewX(k)
	if err != nil {
		t.Fatal(err)
	}
	v := foreign.Value{Cell: aead.Seal(bytes.Clone(nonce), nonce, []byte("value"), nil)}
	for attribute, want := range map[string]string{"iban": "value", "name": ""} {
		r, err := foreign.NewLockbox(foreign.LockboxOptions{MasterKey: lockboxMaster(), Table: "accounts", Attribute: attribute, Algorithm: "xchacha20", Raw: true})
		if got, err := must(t, r, err).Open(t.Context(), v); string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", attribute, got, err)
		}
	}
}

// TestTheModernBackendOpens what the same library seals by CipherSweet's rules: the nonce stands before the ciphertext
// and is authenticated with it.
func TestTheModernBackendOpens(t *testing.T) {
	t.Parallel()
	master := bytes.Repeat([]byte{7}, 32)
	k, err := foreign.FieldKeyForTest(master, "example", "name")
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(k)
	if err != nil {
		t.Fatal(err)
	}
	nonce := bytes.Repeat([]byte{9}, chacha20poly1305.NonceSizeX)
	for name, c := range map[string]struct {
		ad   []byte
		want bool
	}{"with its nonce": {nonce, true}, "without": {nil, false}} {
		v := foreign.Value{Cell: []byte("nacl:" + base64.URLEncoding.EncodeToString(aead.Seal(bytes.Clone(nonce), nonce, []byte("carol"), c.ad)))}
		got, err := sweet(t, string(bytes.Repeat([]byte("07"), 32)), "name", "string").Open(t.Context(), v)
		if c.want && (err != nil || string(got) != "carol") || !c.want && !errors.Is(err, foreign.ErrAuth) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestWhatCannotBeReadIsRefusedByName when the reader is made, not for each row.
func TestWhatCannotBeReadIsRefusedByName(t *testing.T) {
	t.Parallel()
	long := key(strings.Repeat("k", 32))
	for name, build := range map[string]func() error{
		"Ruby Marshal": func() error {
			_, err := foreign.NewAttrEncrypted(foreign.AttrEncryptedOptions{Key: long, Marshal: true})
			return err
		},
		`"per_row"`: func() error {
			_, err := foreign.NewAttrEncrypted(foreign.AttrEncryptedOptions{Key: long, Mode: "per_row"})
			return err
		},
		`"bf-cbc"`: func() error {
			_, err := foreign.NewAttrEncrypted(foreign.AttrEncryptedOptions{Key: long, Algorithm: "bf-cbc"})
			return err
		},
		`"hybrid"`: func() error {
			_, err := foreign.NewLockbox(foreign.LockboxOptions{Keys: []foreign.Key{long}, Algorithm: "hybrid"})
			return err
		},
		`"md5"`: func() error {
			_, err := foreign.NewRails(foreign.RailsOptions{Keys: []foreign.Key{long}, Salt: long, Digest: "md5"})
			return err
		},
		`"bf"`: func() error { _, err := foreign.NewPGRaw(foreign.PGRawOptions{Key: long, Type: "bf"}); return err },
		`"aes/pad:zero"`: func() error {
			_, err := foreign.NewPGRaw(foreign.PGRawOptions{Key: long, Type: "aes/pad:zero"})
			return err
		},
		`"date"`: func() error {
			_, err := foreign.NewCipherSweet(foreign.CipherSweetOptions{Key: long, Table: "t", Field: "f", Type: "date"})
			return err
		},
	} {
		if err := build(); !errors.Is(err, foreign.ErrUnsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAReaderNeedsItsKey(t *testing.T) {
	t.Parallel()
	long, short := key(strings.Repeat("k", 32)), key("hunter2")
	for name, build := range map[string]func() error{
		"attr_encrypted": func() error { _, err := foreign.NewAttrEncrypted(foreign.AttrEncryptedOptions{}); return err },
		"a short key": func() error {
			_, err := foreign.NewAttrEncrypted(foreign.AttrEncryptedOptions{Key: short})
			return err
		},
		"lockbox": func() error { _, err := foreign.NewLockbox(foreign.LockboxOptions{}); return err },
		"a short box": func() error {
			_, err := foreign.NewLockbox(foreign.LockboxOptions{Keys: []foreign.Key{short}})
			return err
		},
		"without names": func() error { _, err := foreign.NewLockbox(foreign.LockboxOptions{MasterKey: long}); return err },
		"xsalsa20 with associated data": func() error {
			_, err := foreign.NewLockbox(foreign.LockboxOptions{Keys: []foreign.Key{long}, Algorithm: "xsalsa20", AssociatedData: []byte{}})
			return err
		},
		"Rails":        func() error { _, err := foreign.NewRails(foreign.RailsOptions{Salt: long}); return err },
		"without salt": func() error { _, err := foreign.NewRails(foreign.RailsOptions{Keys: []foreign.Key{long}}); return err },
		"pgp_sym":      func() error { _, err := foreign.NewPGPSym(foreign.Key{}); return err },
		"encrypt":      func() error { _, err := foreign.NewPGRaw(foreign.PGRawOptions{Type: "aes"}); return err },
		"a long key": func() error {
			_, err := foreign.NewPGRaw(foreign.PGRawOptions{Type: "aes", Key: key(strings.Repeat("k", 33))})
			return err
		},
		"CipherSweet": func() error {
			_, err := foreign.NewCipherSweet(foreign.CipherSweetOptions{Table: "t", Field: "f"})
			return err
		},
		"without field": func() error {
			_, err := foreign.NewCipherSweet(foreign.CipherSweetOptions{Key: long, Table: "t"})
			return err
		},
	} {
		if err := build(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// unwrapper answers every value with what it was asked.
type unwrapper struct{ fail error }

func (u unwrapper) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	return fmt.Appendf(nil, "%s %v", wrapped, aad == nil), u.fail
}

func TestTransitAsksTheServer(t *testing.T) {
	t.Parallel()
	wantText(t, "transit", foreign.NewTransit(unwrapper{}), foreign.Value{Cell: []byte("vault:v1:abc")}, "vault:v1:abc true")
	if got, err := foreign.NewTransit(unwrapper{}).Open(t.Context(), foreign.Value{Cell: []byte("alice@example.com")}); !errors.Is(err, foreign.ErrForm) || got != nil {
		t.Errorf("plaintext: %q, %v", got, err)
	}
	down := errors.New("down")
	if got, err := foreign.NewTransit(unwrapper{down}).Open(t.Context(), foreign.Value{Cell: []byte("vault:v1:abc")}); !errors.Is(err, down) || got != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNothingPrintsAKeyOrAValue(t *testing.T) {
	t.Parallel()
	const secret = "hunter2hunter2hunter2hunter2hunt"
	k := key(secret)
	v := foreign.Value{Cell: []byte(secret), IV: []byte(secret), Salt: []byte(secret)}
	box, err := foreign.NewLockbox(foreign.LockboxOptions{Keys: []foreign.Key{k}})
	r := attr(t, foreign.AttrEncryptedOptions{Key: k})
	type hidden struct {
		k foreign.Key
		o foreign.AttrEncryptedOptions
		r *foreign.AttrEncrypted
		l *foreign.Lockbox
		c *foreign.CipherSweet
		a *foreign.Rails
	}
	for name, shown := range map[string]any{
		"key": k, "value": v, "options": foreign.AttrEncryptedOptions{Key: k}, "attr_encrypted": r, "lockbox": must(t, box, err),
		"pgp": pgp(t, secret), "hidden": hidden{k, foreign.AttrEncryptedOptions{Key: k}, r, box, sweet(t, secret, "f", ""), rails(t, "", secret)},
	} {
		encoded, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{string(encoded)}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, shown))
		}
		for _, text := range texts {
			if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) || strings.Contains(text, "104 117 110 116") {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}

// FuzzOpen: no bytes make a reader panic, and none but a sealed value opens.
func FuzzOpen(f *testing.F) {
	all := samples(f)
	raw, err := foreign.NewPGRaw(foreign.PGRawOptions{Key: key("k"), Type: "aes-cbc"})
	all["encrypt_iv"] = sample{must(f, raw, err), foreign.Value{}}
	for _, s := range all {
		f.Add(s.value.Cell)
	}
	for _, v := range readPGCrypto(f).PGP {
		f.Add(unhex(f, v.Cell))
	}
	f.Fuzz(func(t *testing.T, cell []byte) {
		for name, s := range all {
			v := s.value
			v.Cell = cell
			got, err := s.reader.Open(t.Context(), v)
			if err != nil && got != nil {
				t.Fatalf("%s: %q with %v", name, got, err)
			}
		}
	})
}
