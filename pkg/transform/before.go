package transform

import (
	"context"
	"fmt"
)

// Hook changes a value before it is transformed, as one's own rules want it: blanks trimmed, letters lowered, an old
// notation made a new one. It gets the wire form that the column's codec asks for, and must give that form back; it may
// change its argument's bytes. NULL is not shown to it, and it must not make one. An error means that this value cannot
// be transformed: its row is set aside, and the error's text is dropped, for it may quote the value.
//
// The cell then holds another value than its source. So a hook must be a function of the value alone, whoever verifies
// has to use the same one (proof.Verifier.Before), and `cipherfleet verify`, which knows none, calls such rows stale.
type Hook func(wire []byte) ([]byte, error)

// Before lets hook change every value on its way into inner. In itself stays as it is.
func Before(hook Hook, inner Transform) Transform { return &before{hook: hook, inner: inner} }

type before struct {
	hook   Hook
	inner  Transform
	values []Value // scratch
}

func (b *before) Apply(ctx context.Context, values []Value) error {
	b.values = append(b.values[:0], values...)
	defer clear(b.values)
	for i := range b.values {
		changed, err := b.hook.Wire(b.values[i].In)
		if err != nil {
			return err
		}
		b.values[i].In = changed
	}
	if err := b.inner.Apply(ctx, b.values); err != nil {
		return err
	}
	for i := range values {
		values[i].Out, values[i].Kept = b.values[i].Out, b.values[i].Kept
	}
	return nil
}

// Wire is what the hook makes of one value, which stays as it is; NULL stays NULL, and a nil Hook changes nothing. What
// the hook refuses is an [ErrValue] without its text.
func (h Hook) Wire(wire []byte) ([]byte, error) {
	if h == nil || wire == nil {
		return wire, nil
	}
	changed, err := h(append([]byte{}, wire...))
	if err != nil || changed == nil {
		return nil, fmt.Errorf("a hook refuses it: %w", ErrValue)
	}
	return changed, nil
}
