package transform

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// ErrUnproven says that a transform's answer is not the cell of the value that it was given: missing, of another row,
// of another value, or no cell at all. Nothing of the batch may be written.
var ErrUnproven = errors.New("what a transform answered is not the cell of its value")

// Proof believes no answer of the transform in it: each cell is opened where it will stand, and compared with the value
// it was made of. [Encrypt] does so by itself; Proof is for transforms of one's own that make cells.
type Proof struct {
	inner         Transform
	keyring       *cell.Keyring
	scheme        cell.Scheme
	plain, opened []byte // scratch
}

// NewProof wraps a transform that makes cells of the scheme; it fails if the keyring does not hold it.
func NewProof(inner Transform, keyring *cell.Keyring, scheme cell.Scheme) (*Proof, error) {
	if known, ok := keyring.Scheme(scheme.Column, scheme.Number); !ok || known.Codec != scheme.Codec {
		return nil, fmt.Errorf("prove scheme %d of column %d: %w", scheme.Number, scheme.Column, cell.ErrUnknownScheme)
	}
	return &Proof{inner: inner, keyring: keyring, scheme: scheme}, nil
}

// Apply lets the transform in it do its work, and fails with [ErrUnproven] if a single answer is wrong.
func (p *Proof) Apply(ctx context.Context, values []Value) error {
	if err := p.inner.Apply(ctx, values); err != nil {
		return err
	}
	for i := range values {
		if err := p.prove(&values[i]); err != nil {
			return fmt.Errorf("prove a cell of column %d: %w", p.scheme.Column, err)
		}
	}
	return nil
}

func (p *Proof) prove(v *Value) (err error) {
	v.Null = v.In == nil && p.scheme.SealsNulls()
	if (v.In == nil && !v.Null) != (v.Out == nil) {
		return fmt.Errorf("a NULL on one side: %w", ErrUnproven)
	}
	if v.Out == nil {
		return nil
	}
	if !v.Null {
		if p.plain, err = p.scheme.Codec.Encode(p.plain[:0], v.In); err != nil {
			return fmt.Errorf("%w: %w", ErrValue, err)
		}
	}
	opened, header, err := p.keyring.Open(p.opened[:0], v.Address, v.Out)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnproven, err)
	}
	if header.Scheme != p.scheme.Number || (opened == nil) != v.Null || !v.Null && !bytes.Equal(opened, p.plain) {
		return fmt.Errorf("another value or scheme: %w", ErrUnproven)
	}
	if opened != nil {
		p.opened = opened
	}
	return nil
}
