package transform

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Blind opens cells of one column and makes of each value its token in a blind index. What it has made is made again and
// compared before it is let go.
type Blind struct {
	// Learn says whether a scheme or key that was unknown may be known by now: the registry was read again. Nil: never.
	Learn func(ctx context.Context, err error) bool

	keyring *cell.Keyring
	blinder *cell.Blinder
	plain   []byte // scratch
	again   []byte // scratch
}

// NewBlind makes a Blind for one goroutine; it fails if the keyring does not know the index.
func NewBlind(keyring *cell.Keyring, index uint32) (*Blind, error) {
	blinder, err := keyring.Blinder(index)
	if err != nil {
		return nil, err
	}
	return &Blind{keyring: keyring, blinder: blinder}, nil
}

var errUnsteady = errors.New("two tokens of one value differ")

// Apply makes the tokens. An error means that the whole batch must be thrown away; it is [ErrValue] if a cell does not
// open in its row, or holds what the index's normaliser is not for. A key that was taken away is no cell's fault.
func (b *Blind) Apply(ctx context.Context, values []Value) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer func() { clear(b.plain[:cap(b.plain)]) }()
	arena := make([]byte, 0, len(values)*b.blinder.Index().Length)
	for i := range values {
		v, start := &values[i], len(arena)
		if v.Out = nil; v.In == nil {
			continue
		}
		plain, _, err := openCell(ctx, b.keyring, b.Learn, b.plain[:0], v)
		if err != nil {
			return fmt.Errorf("open a cell of column %d: %w", b.blinder.Index().Column, err)
		}
		if plain == nil {
			return fmt.Errorf("a cell of column %d holds NULL, which a token would tell: %w", b.blinder.Index().Column, ErrValue)
		}
		b.plain = plain
		if arena, err = b.token(arena, plain); err != nil {
			return err
		}
		v.Out = arena[start:len(arena):len(arena)]
	}
	return nil
}

func (b *Blind) token(dst, plain []byte) ([]byte, error) {
	start := len(dst)
	dst, err := b.blinder.Token(dst, plain)
	if err == nil {
		b.again, err = b.blinder.Token(b.again[:0], plain)
	}
	switch {
	case errors.Is(err, cell.ErrWire):
		return nil, fmt.Errorf("%w: %w", ErrValue, err)
	case err != nil:
		return nil, err
	case string(dst[start:]) != string(b.again):
		return nil, errUnsteady
	}
	return dst, nil
}
