package transform

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// openCell appends to dst what a value's cell holds; nil is NULL. Of a scheme or key that is unknown it asks learn, unless that is nil,
// and tries once more. An error is [ErrValue] if the cell is the reason; that a key was taken away is not the row's fault.
func openCell(ctx context.Context, keyring *cell.Keyring, learn func(context.Context, error) bool, dst []byte, v *Value) ([]byte, cell.Header, error) {
	plain, header, err := keyring.Open(dst, v.Address, v.In)
	if isUnknown(err) && learn != nil && learn(ctx, err) {
		plain, header, err = keyring.Open(dst, v.Address, v.In)
	}
	switch {
	case errors.Is(err, cell.ErrKeyRevoked), errors.Is(err, cell.ErrKeyExpired), errors.Is(err, cell.ErrNoColumns): // of no scheme that was there when the row was read
		return nil, header, err
	case err != nil:
		return nil, header, fmt.Errorf("%w: %w", ErrValue, err)
	}
	return plain, header, nil
}

// held is what is known of something that is stored already. Gone says that nobody can tell: its key was destroyed.
type held struct{ same, gone bool }

// content is what a cell holds, or is to hold. The slice of an empty value may be nil: only null says that it is NULL.
type content struct {
	value []byte
	null  bool
}

// stands says whether what is stored is a cell of this content, in its very row, and leaves in dst what it holds. That a
// key was taken away is an error: nobody knows then, and may know later.
func (c content) stands(ctx context.Context, keyring *cell.Keyring, learn func(context.Context, error) bool, dst []byte, stored *Value) ([]byte, held, error) {
	opened, _, err := openCell(ctx, keyring, learn, dst, stored)
	switch {
	case errors.Is(err, ErrValue):
		return dst, held{gone: errors.Is(err, cell.ErrKeyDestroyed)}, nil
	case err != nil:
		return dst, held{}, fmt.Errorf("open what is stored: %w", err)
	case opened == nil:
		return dst, held{same: c.null}, nil
	}
	return opened, held{same: !c.null && bytes.Equal(opened, c.value)}, nil
}

// seal appends the cell of a content, opened again and compared; alter damages it before that, unless it is nil.
func (c content) seal(sealer *cell.Sealer, arena []byte, a cell.Address, alter func([]byte)) (all, sealed []byte, err error) {
	start := len(arena)
	if c.null {
		all, err = sealer.SealNull(arena, a)
	} else {
		all, err = sealer.Seal(arena, a, c.value)
	}
	if err != nil {
		return all, nil, err
	}
	sealed = all[start:len(all):len(all)]
	if alter != nil {
		alter(sealed)
	}
	if c.null {
		err = sealer.OpenAndCompareNull(a, sealed)
	} else {
		err = sealer.OpenAndCompare(a, sealed, c.value)
	}
	if err != nil {
		return all, nil, fmt.Errorf("open what was sealed: %w", err)
	}
	return all, sealed, nil
}

func isUnknown(err error) bool {
	return errors.Is(err, cell.ErrUnknownScheme) || errors.Is(err, cell.ErrUnknownKey)
}
