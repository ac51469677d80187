package backfill

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	readers "github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

var errOutOfOrder = errors.New("a transform lost, doubled or reordered rows")

// faultError says of which column's values a transform's error is.
type faultError struct {
	column int
	error
}

// Unwrap is the error itself.
func (e *faultError) Unwrap() error { return e.error }

// seal runs every column's transform over the span and checks that each row came back, once, in order.
func seal(ctx context.Context, transforms []transform.Transform, s span) error {
	for c, t := range transforms {
		values := s.values[c]
		if err := t.Apply(ctx, values); err != nil {
			return &faultError{c, err}
		}
		if len(values) != len(s.rows) {
			return errOutOfOrder
		}
		for i := range values {
			if (values[i].In == nil) != (values[i].Out == nil) != values[i].Null {
				return errOutOfOrder
			}
		}
	}
	return nil
}

// sealOrIsolate seals the span; rows whose value cannot be transformed are found by bisection and moved to refused, and
// those whose cells turned out to be right are left out.
func sealOrIsolate(ctx context.Context, transforms []transform.Transform, s span) (span, error) {
	s, err := sealOrRefuse(ctx, transforms, s)
	return s.unlike(), err
}

func sealOrRefuse(ctx context.Context, transforms []transform.Transform, s span) (span, error) {
	err := seal(ctx, transforms, s)
	if !errors.Is(err, transform.ErrValue) {
		return s, err
	}
	bad := map[int]error{}
	if err := isolate(ctx, transforms, s, 0, err, bad); err != nil {
		return s, err
	}
	var keep []int
	refused := s.refused
	for i, r := range s.rows {
		if why := bad[i]; why != nil {
			refused = append(refused, r.at(why))
			continue
		}
		keep = append(keep, i)
	}
	s = s.subset(keep)
	s.refused = refused
	return s, nil
}

// isolate seals the halves of a span that failed with cause, and notes the positions of single rows that fail, and why.
func isolate(ctx context.Context, transforms []transform.Transform, s span, offset int, cause error, bad map[int]error) error {
	if len(s.rows) == 1 {
		bad[offset] = cause
		return nil
	}
	first, second := s.halves()
	for _, half := range []struct {
		span
		offset int
	}{{first, offset}, {second, offset + len(first.rows)}} {
		err := seal(ctx, transforms, half.span)
		if errors.Is(err, transform.ErrValue) {
			err = isolate(ctx, transforms, half.span, half.offset, err, bad)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// at is the row with why it is set aside, and for which column.
func (r row) at(why error) row {
	r.reason, r.fault = reasonOf(why), 0
	var of *faultError
	if errors.As(why, &of) {
		r.fault = of.column + 1
	}
	return r
}

// reasonOf is why a row whose value cannot be transformed is set aside.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, cell.ErrKeyDestroyed):
		return reasonDestroyed
	case errors.Is(err, transform.ErrSealedNull):
		return reasonNull
	case errors.Is(err, readers.ErrAuth):
		return reasonClosed
	case errors.Is(err, readers.ErrForm), errors.Is(err, readers.ErrUnsupported):
		return reasonForm
	}
	return reasonValue
}
