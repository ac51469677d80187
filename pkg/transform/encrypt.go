package transform

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// ErrValue says that one of the values cannot be transformed, whoever tries: it is the row's fault, not the moment's.
var ErrValue = errors.New("a value cannot be transformed")

// Encrypt seals plaintext into cells of one scheme, and opens each of them again before it lets it go.
type Encrypt struct {
	Key KeyFor // of values that name a tenant. Nil: they cannot be sealed

	sealers
	plain []byte // scratch

	testOnlySealed func(sealed []byte) // damages a cell before its check; nil outside tests
}

// NewEncrypt makes an Encrypt for one goroutine; it fails if the keyring does not hold the scheme.
func NewEncrypt(keyring *cell.Keyring, scheme cell.Scheme) (*Encrypt, error) {
	all, err := newSealers(keyring, scheme)
	if err != nil {
		return nil, err
	}
	return &Encrypt{sealers: all}, nil
}

// Apply seals every value. An error means that the whole batch must be thrown away; it is [ErrValue] if a value's own
// bytes are to blame.
func (e *Encrypt) Apply(ctx context.Context, values []Value) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	arena := make([]byte, 0, e.room(values))
	for i := range values {
		var err error
		if arena, err = e.seal(ctx, arena, &values[i]); err != nil {
			return fmt.Errorf("seal a value of column %d: %w", e.Scheme().Column, err)
		}
	}
	return nil
}

// room is about what the batch's cells need, so that they lie in one allocation.
func (e *Encrypt) room(values []Value) int {
	n, scheme := 0, e.Scheme()
	for i := range values {
		n += scheme.SealedLength(len(values[i].In) + 8) // a codec may widen a value
	}
	return n
}

func (e *Encrypt) seal(ctx context.Context, arena []byte, v *Value) ([]byte, error) {
	v.Out = nil
	if v.In == nil {
		return arena, nil
	}
	plain, err := e.Scheme().Codec.Encode(e.plain[:0], v.In)
	if err != nil {
		return arena, fmt.Errorf("%w: %w", ErrValue, err)
	}
	e.plain = plain
	sealer, err := e.of(ctx, e.Key, v)
	if err != nil {
		return arena, err
	}
	start := len(arena)
	if arena, err = sealer.Seal(arena, v.Address, plain); err != nil {
		return arena, err
	}
	sealed := arena[start:len(arena):len(arena)]
	if e.testOnlySealed != nil {
		e.testOnlySealed(sealed)
	}
	if err := sealer.OpenAndCompare(v.Address, sealed, plain); err != nil {
		return arena, fmt.Errorf("open what was sealed: %w", err)
	}
	v.Out = sealed
	return arena, nil
}
