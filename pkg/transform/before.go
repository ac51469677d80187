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
func Before(hook Hook, inner Transform) Transform {
	return &altered{alter: func(_ context.Context, v Value) ([]byte, error) { return hook.Wire(v.In) }, inner: inner}
}

// altered lets inner work on what alter makes of each value. Nothing that it made outlives a call.
type altered struct {
	alter  func(context.Context, Value) ([]byte, error)
	inner  Transform
	values []Value // scratch
}

func (a *altered) Apply(ctx context.Context, values []Value) (err error) {
	a.values = append(a.values[:0], values...)
	defer a.forget()
	for i := range a.values {
		if a.values[i].In, err = a.alter(ctx, values[i]); err != nil {
			return err
		}
	}
	if err := a.inner.Apply(ctx, a.values); err != nil {
		return err
	}
	for i := range values {
		values[i].Out, values[i].Kept, values[i].Null = a.values[i].Out, a.values[i].Kept, a.values[i].Null
	}
	return nil
}

func (a *altered) forget() { clear(a.values) }

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
