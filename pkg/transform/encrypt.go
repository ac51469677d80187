package transform

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// ErrValue says that one of the values cannot be transformed, whoever tries: it is the row's fault, not the moment's.
var ErrValue = errors.New("a value cannot be transformed")

// Encrypt seals plaintext into cells of one scheme, and opens each of them again before it lets it go. Where a cell is
// stored already, of whichever scheme, that opens to the very plaintext, it stays.
type Encrypt struct {
	Key  KeyFor  // of values that name a tenant. Nil: they cannot be sealed
	Keys KeysFor // of all tenants of a batch, before it is asked for one. Nil: they are made one by one
	// Learn says whether a scheme or key that was unknown may be known by now: the registry was read again. Nil: never.
	Learn func(ctx context.Context, err error) bool

	sealers
	plain  []byte // scratch
	opened []byte // scratch

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
	defer func() { clear(e.opened[:cap(e.opened)]) }()
	if err := e.prepare(ctx, e.Keys, values); err != nil {
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
		if values[i].Is != nil {
			continue // it is likely to stay
		}
		n += scheme.SealedLength(len(values[i].In) + 8) // a codec may widen a value
	}
	return n
}

func (e *Encrypt) seal(ctx context.Context, arena []byte, v *Value) ([]byte, error) {
	v.Out, v.Kept, v.Null = nil, false, v.In == nil && e.Scheme().SealsNulls()
	if v.In == nil && !v.Null {
		return arena, nil
	}
	plain, err := e.plain[:0], error(nil)
	if !v.Null {
		plain, err = e.Scheme().Codec.Encode(plain, v.In)
	}
	if err != nil {
		return arena, fmt.Errorf("%w: %w", ErrValue, err)
	}
	e.plain = plain
	var is held
	if v.Is != nil {
		stored := Value{Address: v.Address, In: v.Is}
		if e.opened, is, err = (content{plain, v.Null}).stands(ctx, e.keyring, e.Learn, e.opened[:0], &stored); err != nil {
			return arena, err
		}
		if v.Kept = is.same; v.Kept {
			v.Out = v.Is
			return arena, nil
		}
	}
	sealer, err := e.of(ctx, e.Key, v)
	if is.gone && errors.Is(err, ErrValue) && errors.Is(err, cell.ErrKeyDestroyed) { // nobody opens it any more, or seals another
		v.Out, v.Kept = v.Is, true
		return arena, nil
	}
	if err != nil {
		return arena, err
	}
	arena, v.Out, err = content{plain, v.Null}.seal(sealer, arena, v.Address, e.testOnlySealed)
	return arena, err
}
