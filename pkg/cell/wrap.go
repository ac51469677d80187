package cell

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/keyset"
)

const dekLabel = "cfdek/1"

// DEKID names a DEK. A wrapped DEK is bound to all of it, so it unwraps nowhere else.
type DEKID struct {
	Registry [16]byte
	Column   uint32
	KeyID    uint32
	Suite    Suite
}

// aad returns label, registry, column id, key id and suite.
func (id DEKID) aad() []byte {
	b := append([]byte(dekLabel), id.Registry[:]...)
	b = binary.BigEndian.AppendUint32(b, id.Column)
	b = binary.BigEndian.AppendUint32(b, id.KeyID)
	return append(b, byte(id.Suite))
}

// WrapDEK encrypts dek under kek as a Tink encrypted keyset of one key without prefix, which
// stock Tink and the same KEK can read. Before it returns it unwraps the result again and
// proves that the KEK refuses it under another id, because some servers ignore associated data.
func WrapDEK(ctx context.Context, kek KEK, id DEKID, dek DEK) ([]byte, error) {
	if id.Column == 0 || id.KeyID == 0 {
		return nil, fmt.Errorf("wrap key %d of column %d: incomplete", id.KeyID, id.Column)
	}
	handle, err := dek.keyset(id.Suite)
	if err != nil {
		return nil, fmt.Errorf("wrap key %d of column %d: %w", id.KeyID, id.Column, err)
	}
	var wrapped bytes.Buffer
	door := &kekDoor{kek: kek}
	err = handle.WriteWithContext(ctx, keyset.NewBinaryWriter(&wrapped), door, id.aad())
	if err != nil {
		return nil, fmt.Errorf("wrap key %d of column %d: %w", id.KeyID, id.Column, door.cause(err))
	}
	if err := proveWrapped(ctx, kek, id, dek, wrapped.Bytes()); err != nil {
		return nil, fmt.Errorf("prove wrapped key %d of column %d: %w", id.KeyID, id.Column, err)
	}
	return wrapped.Bytes(), nil
}

// proveWrapped unwraps under the right id and must be refused under a wrong one.
func proveWrapped(ctx context.Context, kek KEK, id DEKID, dek DEK, wrapped []byte) error {
	again, err := UnwrapDEK(ctx, kek, id, wrapped)
	if err != nil {
		return err
	}
	defer again.Wipe()
	if !again.equal(dek) {
		return corrupt(kek, "it returned another key than it was given")
	}
	wrong := id
	wrong.KeyID = ^id.KeyID
	stray, err := UnwrapDEK(ctx, kek, wrong, wrapped)
	stray.Wipe()
	switch KEKClassOf(err) {
	case "":
		return corrupt(kek, "it ignores associated data, so wrapped keys could be swapped between columns")
	case KEKUnavailable:
		return err
	}
	return nil
}

// UnwrapDEK reads what WrapDEK returned for the same id. It accepts nothing but one enabled key
// of the right kind and length, whatever the KEK returns. A failure of the KEK keeps its class;
// anything else that is wrong with the wrapped key is KEKCorrupt.
func UnwrapDEK(ctx context.Context, kek KEK, id DEKID, wrapped []byte) (DEK, error) {
	door := &kekDoor{kek: kek}
	handle, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(wrapped)), door, id.aad())
	if err != nil {
		if door.err == nil {
			err = corrupt(kek, "the wrapped key is no encrypted keyset")
		}
		return DEK{}, fmt.Errorf("unwrap key %d of column %d: %w", id.KeyID, id.Column, door.cause(err))
	}
	dek, err := dekOf(handle, id.Suite)
	if err != nil {
		return DEK{}, fmt.Errorf("unwrap key %d of column %d: %w", id.KeyID, id.Column, corrupt(kek, err.Error()))
	}
	return dek, nil
}

// corrupt returns an error of class KEKCorrupt.
func corrupt(kek KEK, what string) error {
	return &KEKError{Class: KEKCorrupt, URI: kek.URI(), Err: errors.New(what)}
}

// kekDoor lets Tink use a KEK for one call, and keeps the KEK's error, which Tink flattens to text.
type kekDoor struct {
	kek KEK
	err error
}

// EncryptWithContext is Wrap.
func (d *kekDoor) EncryptWithContext(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	wrapped, err := d.kek.Wrap(ctx, plaintext, aad)
	d.err = err
	return wrapped, err
}

// DecryptWithContext is Unwrap.
func (d *kekDoor) DecryptWithContext(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	plaintext, err := d.kek.Unwrap(ctx, wrapped, aad)
	d.err = err
	return plaintext, err
}

func (d *kekDoor) cause(err error) error {
	if d.err != nil {
		return d.err
	}
	return err
}
