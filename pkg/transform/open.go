package transform

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// openCell appends to dst what a value's cell holds. Of a scheme or key that is unknown it asks learn, unless that is nil,
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

// holds says whether what is stored is a cell of this plaintext, in its very row, and leaves in dst what it holds. That a
// key was taken away is an error: nobody knows then, and may know later.
func holds(ctx context.Context, keyring *cell.Keyring, learn func(context.Context, error) bool, dst []byte, stored *Value, plain []byte) ([]byte, held, error) {
	opened, _, err := openCell(ctx, keyring, learn, dst, stored)
	if errors.Is(err, ErrValue) {
		return dst, held{gone: errors.Is(err, cell.ErrKeyDestroyed)}, nil
	}
	if err != nil {
		return dst, held{}, fmt.Errorf("open what is stored: %w", err)
	}
	return opened, held{same: bytes.Equal(opened, plain)}, nil
}

func isUnknown(err error) bool {
	return errors.Is(err, cell.ErrUnknownScheme) || errors.Is(err, cell.ErrUnknownKey)
}
