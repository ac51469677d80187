package kms_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/kmstest"
)

// newFile creates a key file and opens it.
func newFile(t *testing.T) (string, cell.KEK) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek.json")
	if err := kms.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	return path, open(t, path)
}

func open(t *testing.T, path string) cell.KEK {
	t.Helper()
	kek, err := kms.Open(t.Context(), "file:"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func TestAWrappedKeyComesBackAfterTheFileIsOpenedAgain(t *testing.T) {
	t.Parallel()
	path, kek := newFile(t)
	dek, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := cell.WrapDEK(t.Context(), kek, kmstest.Identity(), dek)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cell.UnwrapDEK(t.Context(), open(t, path), kmstest.Identity(), wrapped)
	if err != nil {
		t.Fatal(err)
	}
	if !kmstest.SameKey(t, dek, got) {
		t.Fatal("another key came back")
	}
	other, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	if kmstest.SameKey(t, dek, other) {
		t.Fatal("two random keys are the same")
	}
}

func TestAFileIsPrivateAndNeverOverwritten(t *testing.T) {
	t.Parallel()
	path, _ := newFile(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %o, want 600", info.Mode().Perm())
	}
	if err := kms.CreateFile(path); cell.KEKClassOf(err) != cell.KEKDenied {
		t.Fatalf("second creation: %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Fatal("the file changed")
	}
}

func TestAnUnusableFileIsRefusedWithAHintAndWithoutItsContent(t *testing.T) {
	t.Parallel()
	path, _ := newFile(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gcm := keysetJSON(t, func() (*keyset.Handle, error) { return keyset.NewHandle(aead.AES256GCMKeyTemplate()) })
	raw := keysetJSON(t, func() (*keyset.Handle, error) {
		return keyset.NewHandle(aead.XAES256GCM192BitNonceNoPrefixKeyTemplate())
	})
	for _, c := range []struct {
		name    string
		content []byte
		mode    os.FileMode
		class   cell.KEKClass
		says    string
	}{
		{"group-readable", whole, 0o640, cell.KEKExposed, "others than its owner"},
		{"world-readable", whole, 0o604, cell.KEKExposed, "others than its owner"},
		{"group-writable", whole, 0o620, cell.KEKExposed, "others than its owner"},
		{"empty", nil, 0o600, cell.KEKCorrupt, "not a Tink keyset"},
		{"cut off", whole[:len(whole)/2], 0o600, cell.KEKCorrupt, "not a Tink keyset"},
		{"not JSON", []byte("secret-looking text"), 0o600, cell.KEKCorrupt, "not a Tink keyset"},
		{"key material damaged", bytes.Replace(whole, []byte(`"value":"`), []byte(`"value":"!`), 1), 0o600, cell.KEKCorrupt, "not a Tink keyset"},
		{"no keys", []byte(`{"primaryKeyId":1,"key":[]}`), 0o600, cell.KEKCorrupt, "not a Tink keyset"},
		{"too large", bytes.Repeat([]byte(" "), 1<<16+1), 0o600, cell.KEKCorrupt, "not a Tink keyset"},
		{"AES-GCM", gcm, 0o600, cell.KEKCorrupt, "not XAES-GCM"},
		{"no prefix", raw, 0o600, cell.KEKCorrupt, "not XAES-GCM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "kek.json")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := kms.Open(t.Context(), "file:"+path, "")
			wantRefusal(t, err, c.class, path, c.says)
			if material := material(whole); strings.Contains(fmt.Sprintf("%+v", err), material[4:20]) {
				t.Fatalf("the error quotes the key: %v", err)
			}
		})
	}
}

func TestAMissingFileAndAFolderAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.json")
	_, err := kms.Open(t.Context(), "file:"+missing, "")
	wantRefusal(t, err, cell.KEKUnavailable, missing, "no such file")
	_, err = kms.Open(t.Context(), "file:"+dir, "")
	wantRefusal(t, err, cell.KEKCorrupt, dir, "not a Tink keyset")
	wantRefusal(t, kms.CreateFile(filepath.Join(dir, "none", "kek.json")), cell.KEKUnavailable, dir, "no such file")
}

func wantRefusal(t *testing.T, err error, class cell.KEKClass, path, says string) {
	t.Helper()
	var e *cell.KEKError
	if !errors.As(err, &e) {
		t.Fatalf("%v is no KEKError", err)
	}
	if e.Class != class || e.Hint == "" || !strings.Contains(e.Error(), path) || !strings.Contains(e.Error(), says) {
		t.Fatalf("class %s, hint %q: %v; want class %s, the path and %q", e.Class, e.Hint, e, class, says)
	}
}

func TestURIs(t *testing.T) {
	t.Parallel()
	path, _ := newFile(t)
	dir, name := filepath.Dir(path), filepath.Base(path)
	for _, uri := range []string{"file:" + path, "file://" + path, "file:" + name, "file:./" + name} {
		kek, err := kms.Open(t.Context(), uri, dir)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if kek.URI() != uri {
			t.Errorf("%s became %s", uri, kek.URI())
		}
		if got := kms.Path(uri, dir); got != path {
			t.Errorf("path of %s is %s", uri, got)
		}
	}
	for _, uri := range []string{"", "file:", name, "vault://user:hunter2@host/key", "FILE:" + path} {
		_, err := kms.Open(t.Context(), uri, dir)
		var e *cell.KEKError
		if !errors.As(err, &e) || e.Hint == "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", uri, err)
		}
		if kms.Path(uri, dir) != "" {
			t.Errorf("%q has a path", uri)
		}
	}
}

func TestDamagedAndForeignWrappedKeysAreCorrupt(t *testing.T) {
	t.Parallel()
	_, kek := newFile(t)
	_, other := newFile(t)
	wrapped, err := kek.Wrap(t.Context(), []byte("some bytes"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if _, err := kek.Unwrap(t.Context(), bad, []byte("aad")); cell.KEKClassOf(err) != cell.KEKCorrupt {
			t.Fatalf("byte %d altered: %v", i, err)
		}
		if _, err := kek.Unwrap(t.Context(), wrapped[:i], []byte("aad")); cell.KEKClassOf(err) != cell.KEKCorrupt {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
	if _, err := kek.Unwrap(t.Context(), wrapped, []byte("other")); cell.KEKClassOf(err) != cell.KEKCorrupt {
		t.Fatalf("other aad: %v", err)
	}
	if _, err := other.Unwrap(t.Context(), wrapped, []byte("aad")); cell.KEKClassOf(err) != cell.KEKCorrupt {
		t.Fatalf("other file: %v", err)
	}
}

func TestACancelledCallIsUnavailable(t *testing.T) {
	t.Parallel()
	_, kek := newFile(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kek.Wrap(ctx, nil, nil); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Error(err)
	}
	if _, err := kek.Unwrap(ctx, nil, nil); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Error(err)
	}
}

// TestStockTinkReadsTheFile proves that the file is an ordinary Tink keyset: what it wraps,
// Tink unwraps, and the other way round.
func TestStockTinkReadsTheFile(t *testing.T) {
	t.Parallel()
	path, kek := newFile(t)
	stock := stockAEAD(t, path)
	wrapped, err := kek.Wrap(t.Context(), []byte("ours"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := stock.Decrypt(wrapped, []byte("aad")); err != nil || string(got) != "ours" {
		t.Fatalf("Tink opens ours: %q, %v", got, err)
	}
	wrapped, err = stock.Encrypt([]byte("Tink's"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := kek.Unwrap(t.Context(), wrapped, []byte("aad")); err != nil || string(got) != "Tink's" {
		t.Fatalf("we open Tink's: %q, %v", got, err)
	}
}

// TestStockTinkReadsAWrappedKey proves that the registry can be read without this program:
// Tink unwraps the keyset with the key file alone.
func TestStockTinkReadsAWrappedKey(t *testing.T) {
	t.Parallel()
	path, kek := newFile(t)
	dek, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := cell.WrapDEK(t.Context(), kek, kmstest.Identity(), dek)
	if err != nil {
		t.Fatal(err)
	}
	aad := []byte("cfdek/1\x11\x22\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x2a\x01")
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), stockAEAD(t, path), aad)
	if err != nil {
		t.Fatal(err)
	}
	if handle.Len() != 1 {
		t.Fatalf("%d keys", handle.Len())
	}
}

// TestARotatedFileUnwrapsWhatTheOldKeyWrapped, and what the new one wraps, also for a program that runs; until the old one is
// switched off or deleted.
func TestARotatedFileUnwrapsWhatTheOldKeyWrapped(t *testing.T) {
	t.Parallel()
	path, kek := newFile(t)
	old, err := kek.Wrap(t.Context(), []byte("old"), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := keyset.NewManagerFromHandle(handleOf(t, path))
	id, err := m.Add(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, keysetJSON(t, m.Handle), 0o600); err != nil {
		t.Fatal(err)
	}
	rotated := open(t, path)
	if got, err := rotated.Unwrap(t.Context(), old, nil); err != nil || string(got) != "old" {
		t.Fatalf("%q, %v", got, err)
	}
	fresh, err := rotated.Wrap(t.Context(), []byte("new"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(fresh[:5], old[:5]) {
		t.Fatal("the new primary key does not wrap")
	}
	if got, err := kek.Unwrap(t.Context(), fresh, nil); err != nil || string(got) != "new" {
		t.Errorf("a program that runs does not know the new key: %q, %v", got, err)
	}
	if wrapped, err := kek.Wrap(t.Context(), []byte("new"), nil); err != nil || !bytes.Equal(wrapped[:5], fresh[:5]) {
		t.Errorf("a program that runs does not wrap with the new key: %v", err)
	}
	of := binary.BigEndian.Uint32(old[1:5])
	for _, c := range []struct {
		change func(uint32) error
		want   cell.KEKClass
	}{{m.Disable, cell.KEKDisabled}, {m.Enable, ""}, {m.Delete, cell.KEKCorrupt}} {
		if err := c.change(of); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, keysetJSON(t, m.Handle), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := kek.Unwrap(t.Context(), old, nil)
		if hint := hintOf(err); cell.KEKClassOf(err) != c.want || (err == nil) != (string(got) == "old") || (hint == "") != (err == nil) {
			t.Errorf("class %q, want %q: %v", cell.KEKClassOf(err), c.want, err)
		}
		if got, err := kek.Unwrap(t.Context(), fresh, nil); err != nil || string(got) != "new" {
			t.Errorf("the other key: %q, %v", got, err)
		}
	}
}

func hintOf(err error) string {
	var e *cell.KEKError
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

func TestAnOpenFileNeverPrintsItsKey(t *testing.T) {
	t.Parallel()
	path, kek := newFile(t)
	encoded, err := json.Marshal(kek)
	if err != nil {
		t.Fatal(err)
	}
	if string(encoded) != "{}" {
		t.Errorf("JSON: %s", encoded)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, kek); got != "file:"+path {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func handleOf(t *testing.T, path string) *keyset.Handle {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(content)))
	if err != nil {
		t.Fatal(err)
	}
	return handle
}

func stockAEAD(t *testing.T, path string) tink.AEAD {
	t.Helper()
	a, err := aead.New(handleOf(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func keysetJSON(t *testing.T, build func() (*keyset.Handle, error)) []byte {
	t.Helper()
	handle, err := build()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// material returns the base64 text of the key in a keyset file.
func material(content []byte) string {
	_, rest, _ := strings.Cut(string(content), `"value":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}
