package transform_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// wrong does to the answers of a right transform what its function says.
type wrong struct {
	transform.Transform
	f func([]transform.Value)
}

func (w wrong) Apply(ctx context.Context, values []transform.Value) error {
	err := w.Transform.Apply(ctx, values)
	w.f(values)
	return err
}

func three() []transform.Value {
	return []transform.Value{{Address: address(1), In: []byte("first secret")}, {Address: address(2), In: []byte("second secret")}, {Address: address(3)}}
}

func TestNoWrongAnswerIsBelieved(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	foreign := cell.NewKeyring([16]byte{2})
	dek, err := cell.NewDEK()
	if err == nil {
		err = foreign.Add(scheme, dek)
	}
	if err != nil {
		t.Fatal(err)
	}
	forge := func(v transform.Value) []byte { // looks like a cell, and is the plaintext
		return append(append(scheme.Header().Append(nil), v.In...), bytes.Repeat([]byte{0}, cell.Overhead)...)
	}
	for name, f := range map[string]func([]transform.Value){
		"nothing":             nil,
		"one too few":         func(v []transform.Value) { v[1].Out = nil },
		"one too many":        func(v []transform.Value) { v[2].Out = v[0].Out },
		"shuffled":            func(v []transform.Value) { v[0].Out, v[1].Out = v[1].Out, v[0].Out },
		"the plaintext":       func(v []transform.Value) { v[0].Out = v[0].In },
		"a forged envelope":   func(v []transform.Value) { v[0].Out = forge(v[0]) },
		"of another registry": func(v []transform.Value) { v[0].Out, _ = foreign.Seal(nil, scheme, v[0].Address, v[0].In) },
		"of another value":    func(v []transform.Value) { v[0].Out, _ = ring.Seal(nil, scheme, v[0].Address, []byte("other")) },
	} {
		e, err := transform.NewEncrypt(ring, scheme)
		if err != nil {
			t.Fatal(err)
		}
		var inner transform.Transform = e
		if f != nil {
			inner = wrong{e, f}
		}
		p, err := transform.NewProof(inner, ring, scheme)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Apply(t.Context(), three())
		if errors.Is(err, transform.ErrUnproven) != (f != nil) || (err != nil) != (f != nil) || errors.Is(err, transform.ErrValue) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a value: %v", name, err)
		}
	}
	scheme.Number = 9
	if _, err := transform.NewProof(nil, ring, scheme); !errors.Is(err, cell.ErrUnknownScheme) {
		t.Errorf("of an unknown scheme: %v", err)
	}
}

func TestAHookChangesWhatIsSealedAndNotTheSource(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	values := three()
	hooked := transform.Before(func(wire []byte) ([]byte, error) {
		wire[0] = 'F' // its argument is its own
		return bytes.ToUpper(wire), nil
	}, e)
	for range 2 { // its scratch is used again
		if err := hooked.Apply(t.Context(), values); err != nil {
			t.Fatal(err)
		}
	}
	opened, _, err := ring.Open(nil, address(1), values[0].Out)
	if err != nil || string(opened) != "FIRST SECRET" || string(values[0].In) != "first secret" || values[2].Out != nil {
		t.Errorf("the cell holds %q, the source %q, %v", opened, values[0].In, err)
	}
}

func TestWhatAHookRefusesIsTheValuesFault(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	for name, hook := range map[string]transform.Hook{
		"error": func(wire []byte) ([]byte, error) { return wire, errors.New("bad " + string(wire)) },
		"NULL":  func([]byte) ([]byte, error) { return nil, nil },
	} {
		e, err := transform.NewEncrypt(ring, scheme)
		if err != nil {
			t.Fatal(err)
		}
		err = transform.Before(hook, e).Apply(t.Context(), three())
		if !errors.Is(err, transform.ErrValue) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if wire, err := transform.Hook(nil).Wire([]byte("x")); err != nil || string(wire) != "x" {
		t.Errorf("no hook made %q, %v", wire, err)
	}
}
