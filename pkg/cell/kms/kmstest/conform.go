// Package kmstest is the table that every kind of key-encryption key passes, those in modules of their own too.
//
// A subject is one kind under test, with the place where its key lives. A fault is one thing that can be wrong with
// that place: Conform causes it and sees that no key comes back, how the failure is classed and that all is well when
// the fault is over. Every kind answers for the same faults; one that it cannot have, it says why.
package kmstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Subject is one kind of key under test, fresh for each test.
type Subject struct {
	Open    func() (cell.KEK, error)
	Secrets []string // what nothing may print
	Faults  map[string]Fault
}

// Fault is one thing that can be wrong with the place where a key lives.
type Fault struct {
	Cause  func()
	Class  cell.KEKClass
	Heal   func() // nil: it stays
	Anew   bool   // the test's patience is less for openings from then on: others would wait for long
	ByCell bool   // the key cannot notice it, pkg/cell does, which has no hint
	Cannot string // why this kind of key cannot have the fault
}

// required are the faults that every kind of key answers for.
func required() []string {
	return []string{"unavailable", "throttled", "denied", "disabled", "destroyed", "empty answer", "slow answer", "truncated answer", "ignores associated data"}
}

// Conform is what every kind of key passes. fresh makes a subject of its own for each call.
func Conform(t *testing.T, fresh func(t *testing.T) Subject) {
	t.Helper()
	for name, check := range map[string]func(*testing.T, Subject){
		"comes back":       conformRoundTrip,
		"is bound":         conformBinding,
		"notices damage":   conformDamage,
		"gives up":         conformCancelled,
		"is concurrent":    conformConcurrent,
		"prints no secret": conformSilence,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, fresh(t))
		})
	}
	faults := fresh(t).Faults
	for _, name := range required() {
		if _, ok := faults[name]; !ok {
			t.Errorf("nothing said about %q", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		if faults[name].Cannot == "" {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := fresh(t)
				conformFault(t, s, s.Faults[name])
			})
		}
	}
}

func (s Subject) must(t *testing.T) cell.KEK {
	t.Helper()
	kek, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func wrap(t *testing.T, kek cell.KEK) (cell.DEK, []byte) {
	t.Helper()
	dek, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := cell.WrapDEK(t.Context(), kek, Identity(), dek)
	if err != nil {
		t.Fatal(err)
	}
	return dek, wrapped
}

func conformRoundTrip(t *testing.T, s Subject) {
	dek, wrapped := wrap(t, s.must(t))
	back, err := cell.UnwrapDEK(t.Context(), s.must(t), Identity(), wrapped)
	if err != nil || !SameKey(t, dek, back) {
		t.Fatalf("%v", err)
	}
	kek := s.must(t)
	if a, b := MustWrap(t, kek), MustWrap(t, kek); bytes.Equal(a, b) || bytes.Contains(a, []byte("some bytes")) {
		t.Error("wrapping is not encryption with randomness")
	}
}

// MustWrap wraps "some bytes" for the associated data "aad".
func MustWrap(t *testing.T, kek cell.KEK) []byte {
	t.Helper()
	wrapped, err := kek.Wrap(t.Context(), []byte("some bytes"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// conformBinding: what was wrapped for one key of one column unwraps for no other.
func conformBinding(t *testing.T, s Subject) {
	kek := s.must(t)
	_, wrapped := wrap(t, kek)
	for name, change := range map[string]func(*cell.DEKID){
		"registry": func(id *cell.DEKID) { id.Registry[0]++ },
		"column":   func(id *cell.DEKID) { id.Column++ },
		"key id":   func(id *cell.DEKID) { id.KeyID++ },
		"suite":    func(id *cell.DEKID) { id.Suite++ },
	} {
		id := Identity()
		change(&id)
		if _, err := cell.UnwrapDEK(t.Context(), kek, id, wrapped); cell.KEKClassOf(err) != cell.KEKCorrupt {
			t.Errorf("another %s: %v", name, err)
		}
	}
	plain := MustWrap(t, kek)
	for _, aad := range []string{"", "aac", "aad ", "aadaad"} {
		if got, err := kek.Unwrap(t.Context(), plain, []byte(aad)); cell.KEKClassOf(err) != cell.KEKCorrupt || got != nil {
			t.Errorf("associated data %q: %v", aad, err)
		}
	}
	if got, err := kek.Unwrap(t.Context(), plain, []byte("aad")); err != nil || string(got) != "some bytes" {
		t.Errorf("the right associated data: %q, %v", got, err)
	}
}

func conformDamage(t *testing.T, s Subject) {
	kek := s.must(t)
	wrapped := MustWrap(t, kek)
	for i := range wrapped {
		for name, bad := range map[string][]byte{"altered": bytes.Clone(wrapped), "cut": wrapped[:i]} {
			if name == "altered" {
				bad[i] ^= 0x80
			}
			if got, err := kek.Unwrap(t.Context(), bad, []byte("aad")); cell.KEKClassOf(err) != cell.KEKCorrupt || got != nil {
				t.Fatalf("%s at byte %d: %v", name, i, err)
			}
		}
	}
}

func conformCancelled(t *testing.T, s Subject) {
	kek := s.must(t)
	wrapped := MustWrap(t, kek)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kek.Wrap(ctx, []byte("some bytes"), nil); cell.KEKClassOf(err) != cell.KEKUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("wrap: %v", err)
	}
	if _, err := kek.Unwrap(ctx, wrapped, []byte("aad")); cell.KEKClassOf(err) != cell.KEKUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("unwrap: %v", err)
	}
}

func conformConcurrent(t *testing.T, s Subject) {
	kek := s.must(t)
	wrapped := MustWrap(t, kek)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got, err := kek.Unwrap(t.Context(), wrapped, []byte("aad")); err != nil || string(got) != "some bytes" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	all.Wait()
}

func conformSilence(t *testing.T, s Subject) {
	kek := s.must(t)
	MustWrap(t, kek)
	s.silent(t, kek.URI())
	encoded, err := json.Marshal(kek)
	if err != nil {
		t.Fatal(err)
	}
	s.silent(t, string(encoded))
	type hidden struct{ k cell.KEK }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		s.silent(t, fmt.Sprintf(verb, kek))
		s.silent(t, fmt.Sprintf(verb, hidden{kek}))
	}
}

func (s Subject) silent(t *testing.T, text string) {
	t.Helper()
	for _, secret := range s.Secrets {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is printed: %s", text)
		}
	}
}

// conformFault wraps a key, lets the fault happen and wraps and unwraps through the same and through a new opening.
// Nothing may come back, and the failure is classed, has a hint and holds no secret. Afterwards all is well again.
func conformFault(t *testing.T, s Subject, f Fault) {
	kek := s.must(t)
	dek, wrapped := wrap(t, kek)
	f.Cause()
	if !f.Anew {
		s.suffers(t, f, "a program that runs", kek, dek, wrapped)
	}
	if again, err := s.Open(); err != nil {
		s.told(t, f, "a program that begins", err)
	} else {
		s.suffers(t, f, "a program that begins", again, dek, wrapped)
	}
	if f.Heal == nil {
		return
	}
	f.Heal()
	for who, kek := range map[string]cell.KEK{"a program that runs": kek, "a program that begins": s.must(t)} {
		if back, err := cell.UnwrapDEK(t.Context(), kek, Identity(), wrapped); err != nil || !SameKey(t, dek, back) {
			t.Errorf("%s, when all is well again: %v", who, err)
		}
	}
}

// suffers sees that no key comes through an opening while a fault lasts.
func (s Subject) suffers(t *testing.T, f Fault, who string, kek cell.KEK, dek cell.DEK, wrapped []byte) {
	t.Helper()
	got, err := cell.UnwrapDEK(t.Context(), kek, Identity(), wrapped)
	if got != (cell.DEK{}) {
		t.Errorf("%s: a key came back", who)
	}
	_, wrapErr := cell.WrapDEK(t.Context(), kek, Identity(), dek)
	if cell.KEKClassOf(wrapErr) != f.Class {
		t.Errorf("%s: wrap: class %q, want %q: %v", who, cell.KEKClassOf(wrapErr), f.Class, wrapErr)
	}
	s.told(t, f, who, err)
}

// told sees that a failure is of the fault's class, has a hint and holds no secret.
func (s Subject) told(t *testing.T, f Fault, who string, err error) {
	t.Helper()
	var e *cell.KEKError
	if !errors.As(err, &e) || e.Class != f.Class || (e.Hint == "") != f.ByCell || e.URI == "" {
		t.Fatalf("%s: class %q, want %q: %v", who, cell.KEKClassOf(err), f.Class, err)
	}
	s.silent(t, err.Error()+e.Hint)
}

// Identity names the key that is wrapped.
func Identity() cell.DEKID {
	return cell.DEKID{Registry: [16]byte{0x11, 0x22}, Column: 7, KeyID: 42, Suite: cell.SuiteXAES256GCM}
}

// SameKey reports whether two DEKs seal alike: one opens the canary of the other.
func SameKey(t *testing.T, a, b cell.DEK) bool {
	t.Helper()
	s := cell.Scheme{Column: 7, Number: 1, Suite: cell.SuiteXAES256GCM, KeyID: 42}
	canary, err := cell.Canary([16]byte{}, s, a)
	if err != nil {
		t.Fatal(err)
	}
	return cell.CheckCanary([16]byte{}, s, b, canary) == nil
}
