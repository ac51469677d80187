package cell_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// localKEK is a key-encryption key in memory whose faults a test chooses: it is a KEK of its
// own, with real cryptography, not an imitation of another.
type localKEK struct {
	x      *cell.XAES
	blind  bool          // ignores associated data, as some servers do
	empty  bool          // answers every unwrap with nothing, as some clients do
	fail   error         // of every call
	answer func() []byte // instead of the true answer to an unwrap
}

func newKEK(t testing.TB) *localKEK {
	t.Helper()
	x, err := cell.NewXAES(bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &localKEK{x: x}
}

func (k *localKEK) URI() string { return "test:local" }

func (k *localKEK) Wrap(_ context.Context, dek, aad []byte) ([]byte, error) {
	if k.fail != nil {
		return nil, k.fail
	}
	if k.blind {
		aad = nil
	}
	return k.x.Seal(nil, dek, aad)
}

func (k *localKEK) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	switch {
	case k.fail != nil:
		return nil, k.fail
	case k.empty:
		return nil, nil
	case k.answer != nil:
		return k.answer(), nil
	case k.blind:
		aad = nil
	}
	dek, err := k.x.Open(nil, wrapped, aad)
	if err != nil {
		return nil, &cell.KEKError{Class: cell.KEKCorrupt, URI: k.URI(), Err: err}
	}
	return dek, nil
}

func identity() cell.DEKID {
	return cell.DEKID{Registry: registry, Column: 7, KeyID: 42, Suite: cell.SuiteXAES256GCM}
}

func TestAWrappedKeyOpensTheSameCells(t *testing.T) {
	t.Parallel()
	kek, s := newKEK(t), scheme()
	d, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := cell.WrapDEK(t.Context(), kek, identity(), d)
	if err != nil {
		t.Fatal(err)
	}
	back, err := cell.UnwrapDEK(t.Context(), kek, identity(), wrapped)
	if err != nil {
		t.Fatal(err)
	}
	one, two := cell.NewKeyring(registry), cell.NewKeyring(registry)
	if err := errors.Join(one.Add(s, d), two.Add(s, back)); err != nil {
		t.Fatal(err)
	}
	c := seal(t, one, s, row(99), "value")
	if got, _, err := two.Open(nil, row(99), c); err != nil || string(got) != "value" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestAWrappedKeyUnwrapsUnderItsOwnIDOnly(t *testing.T) {
	t.Parallel()
	kek := newKEK(t)
	wrapped, err := cell.WrapDEK(t.Context(), kek, identity(), dek(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*cell.DEKID){
		"registry": func(id *cell.DEKID) { id.Registry[0]++ },
		"column":   func(id *cell.DEKID) { id.Column++ },
		"key id":   func(id *cell.DEKID) { id.KeyID++ },
		"suite":    func(id *cell.DEKID) { id.Suite++ },
	} {
		id := identity()
		change(&id)
		if _, err := cell.UnwrapDEK(t.Context(), kek, id, wrapped); cell.KEKClassOf(err) != cell.KEKCorrupt {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for i := range wrapped {
		if _, err := cell.UnwrapDEK(t.Context(), kek, identity(), wrapped[:i]); cell.KEKClassOf(err) != cell.KEKCorrupt {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestAKEKThatCannotBeTrustedIsRefused(t *testing.T) {
	t.Parallel()
	kek := newKEK(t)
	kek.blind = true
	if _, err := cell.WrapDEK(t.Context(), kek, identity(), dek(t, 1)); cell.KEKClassOf(err) != cell.KEKCorrupt || !strings.Contains(err.Error(), "ignores associated data") {
		t.Errorf("a KEK that ignores associated data: %v", err)
	}
	kek = newKEK(t)
	kek.empty = true
	if _, err := cell.WrapDEK(t.Context(), kek, identity(), dek(t, 1)); cell.KEKClassOf(err) != cell.KEKCorrupt {
		t.Errorf("a KEK that returns nothing: %v", err)
	}
	kek = newKEK(t)
	kek.answer = func() []byte { return plainKeyset(t, aead.XAES256GCM192BitNonceNoPrefixKeyTemplate) }
	if _, err := cell.WrapDEK(t.Context(), kek, identity(), dek(t, 1)); cell.KEKClassOf(err) != cell.KEKCorrupt || !strings.Contains(err.Error(), "another key") {
		t.Errorf("a KEK that returns another key: %v", err)
	}
}

func TestOnlyOneKeyOfTheRightKindIsUnwrapped(t *testing.T) {
	t.Parallel()
	kek := newKEK(t)
	wrapped, err := cell.WrapDEK(t.Context(), kek, identity(), dek(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"prefix":    plainKeyset(t, aead.XAES256GCM192BitNonceKeyTemplate),
		"AES-GCM":   plainKeyset(t, aead.AES256GCMNoPrefixKeyTemplate),
		"8 of salt": plainKeyset(t, aead.XAES256GCM160BitNonceNoPrefixKeyTemplate),
		"two keys":  plainKeyset(t, aead.XAES256GCM192BitNonceNoPrefixKeyTemplate, aead.XAES256GCM192BitNonceNoPrefixKeyTemplate),
		"garbage":   []byte("garbage"),
		"nothing":   {},
	} {
		kek.answer = func() []byte { return content }
		d, err := cell.UnwrapDEK(t.Context(), kek, identity(), wrapped)
		if cell.KEKClassOf(err) != cell.KEKCorrupt || d != (cell.DEK{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFailureOfTheKEKKeepsItsClass(t *testing.T) {
	t.Parallel()
	kek := newKEK(t)
	wrapped, err := cell.WrapDEK(t.Context(), kek, identity(), dek(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []cell.KEKClass{cell.KEKUnavailable, cell.KEKDenied, cell.KEKDisabled, cell.KEKDestroyed} {
		cause := errors.New("the cause")
		kek.fail = &cell.KEKError{Class: class, URI: kek.URI(), Hint: "hint", Err: cause}
		if _, err := cell.WrapDEK(t.Context(), kek, identity(), dek(t, 1)); cell.KEKClassOf(err) != class || !errors.Is(err, cause) {
			t.Errorf("wrap: %v, want %s", err, class)
		}
		if _, err := cell.UnwrapDEK(t.Context(), kek, identity(), wrapped); cell.KEKClassOf(err) != class || !errors.Is(err, cause) {
			t.Errorf("unwrap: %v, want %s", err, class)
		}
	}
}

func TestAnIncompleteIDIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*cell.DEKID){
		"column 0": func(id *cell.DEKID) { id.Column = 0 },
		"key id 0": func(id *cell.DEKID) { id.KeyID = 0 },
		"suite 0":  func(id *cell.DEKID) { id.Suite = 0 },
	} {
		id := identity()
		change(&id)
		if _, err := cell.WrapDEK(t.Context(), newKEK(t), id, dek(t, 1)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := cell.WrapDEK(t.Context(), newKEK(t), identity(), cell.DEK{}); err == nil {
		t.Error("no key was wrapped")
	}
}

// plainKeyset returns a serialized keyset with one new key per template.
func plainKeyset(t testing.TB, templates ...func() *tinkpb.KeyTemplate) []byte {
	t.Helper()
	m := keyset.NewManager()
	for _, template := range templates {
		id, err := m.Add(template())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.SetPrimary(id); err != nil {
			t.Fatal(err)
		}
	}
	handle, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&b)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestACanaryProvesKeyAndScheme(t *testing.T) {
	t.Parallel()
	s := scheme()
	canary, err := cell.Canary(registry, s, dek(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := cell.CheckCanary(registry, s, dek(t, 1), canary); err != nil {
		t.Fatal(err)
	}
	if err := cell.CheckCanary(registry, s, dek(t, 2), canary); !errors.Is(err, cell.ErrAuth) {
		t.Errorf("another key: %v", err)
	}
	if err := cell.CheckCanary([16]byte{}, s, dek(t, 1), canary); !errors.Is(err, cell.ErrAuth) {
		t.Errorf("another registry: %v", err)
	}
	for name, change := range map[string]func(*cell.Scheme){
		"column":  func(s *cell.Scheme) { s.Column++ },
		"number":  func(s *cell.Scheme) { s.Number++ },
		"codec":   func(s *cell.Scheme) { s.Codec = cell.CodecBytes },
		"binding": func(s *cell.Scheme) { s.RowBound = false },
		"padding": func(s *cell.Scheme) { s.Padding = 32 },
		"no pad":  func(s *cell.Scheme) { s.Padding = 0 },
		"key id":  func(s *cell.Scheme) { s.KeyID++ },
	} {
		other := s
		change(&other)
		if err := cell.CheckCanary(registry, other, dek(t, 1), canary); err == nil {
			t.Errorf("another %s was not seen", name)
		}
	}
}

func TestACanaryIsNoCellOfTheColumn(t *testing.T) {
	t.Parallel()
	for _, bound := range []bool{true, false} {
		s := scheme()
		s.RowBound = bound
		canary, err := cell.Canary(registry, s, dek(t, 1))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []cell.Address{row(99), {Column: 7, Key: cell.AppendKeyText(cell.AppendKeyCount(nil, 1), nil)}} {
			if _, _, err := ring(t, s).Open(nil, a, canary); !errors.Is(err, cell.ErrAuth) {
				t.Errorf("bound %v: %v", bound, err)
			}
		}
	}
}
