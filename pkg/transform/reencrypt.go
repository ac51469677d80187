package transform

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Reencrypt opens cells of one column, of whichever scheme, and seals what they hold under one scheme. What it sealed
// is opened again and compared before it is let go. A cell that does not open is never sealed as if it were data. Where a
// cell is stored already, of whichever scheme, that opens to the very plaintext, it stays.
type Reencrypt struct {
	From uint32 // id of the column whose cells are opened, in the same rows; 0: the scheme's own

	Leaves bool // of another column's cells: one that holds NULL gives NULL, though the scheme cannot say so, and goes itself

	// Learn says whether a scheme or key that was unknown may be known by now: the registry was read again. Nil: never.
	Learn func(ctx context.Context, err error) bool
	Key   KeyFor  // of values that name a tenant. Nil: they cannot be sealed
	Keys  KeysFor // of all tenants of a batch, before it is asked for one. Nil: they are made one by one

	sealers
	plain  []byte // scratch
	opened []byte // scratch

	testOnlySealed func(sealed []byte) // damages a cell before its check; nil outside tests
}

// NewReencrypt makes a Reencrypt for one goroutine; it fails if the keyring does not hold the scheme.
func NewReencrypt(keyring *cell.Keyring, to cell.Scheme) (*Reencrypt, error) {
	all, err := newSealers(keyring, to)
	if err != nil {
		return nil, err
	}
	return &Reencrypt{sealers: all}, nil
}

// Apply seals every cell anew. An error means that the whole batch must be thrown away; it is [ErrValue] if a cell does
// not open in its row, or holds what the scheme's codec does not. A key that was taken away is no cell's fault.
func (r *Reencrypt) Apply(ctx context.Context, values []Value) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer func() { clear(r.plain[:cap(r.plain)]); clear(r.opened[:cap(r.opened)]) }()
	if err := r.prepare(ctx, r.Keys, values); err != nil {
		return err
	}
	arena := make([]byte, 0, r.room(values))
	for i := range values {
		var err error
		if arena, err = r.reseal(ctx, arena, &values[i]); err != nil {
			return fmt.Errorf("seal a cell of column %d anew: %w", r.Scheme().Column, err)
		}
	}
	return nil
}

// room is enough for the batch's cells, so that they lie in one allocation: none holds more than the cell it came from.
func (r *Reencrypt) room(values []Value) int {
	n, scheme := 0, r.Scheme()
	for i := range values {
		n += scheme.SealedLength(max(0, len(values[i].In)-cell.MinLength))
	}
	return n
}

func (r *Reencrypt) reseal(ctx context.Context, arena []byte, v *Value) ([]byte, error) {
	v.Out, v.Kept, v.Null = nil, false, false
	seals := r.Scheme().SealsNulls()
	if v.In == nil && !seals {
		return arena, nil
	}
	holds, err := r.open(ctx, v)
	if err != nil {
		return arena, err
	}
	if holds.null && !seals && r.From != 0 && !r.Leaves {
		return arena, fmt.Errorf("%w: %w", ErrValue, ErrSealedNull)
	}
	if v.Null = holds.null && (v.In == nil) == seals; holds.null && !seals {
		return arena, nil
	}
	address := v.Address
	address.Column = r.Scheme().Column
	if v.Is != nil {
		stored := Value{Address: address, In: v.Is}
		opened, is, err := holds.stands(ctx, r.keyring, r.Learn, r.opened[:0], &stored)
		r.opened = opened
		if err != nil {
			return arena, err
		}
		if v.Kept = is.same; v.Kept {
			v.Out = v.Is
			return arena, nil
		}
	}
	sealer, err := r.of(ctx, r.Key, v)
	if err != nil {
		return arena, err
	}
	arena, v.Out, err = holds.seal(sealer, arena, address, r.testOnlySealed)
	return arena, err
}

// open is what the cell holds, in r.plain; without a cell it is NULL.
func (r *Reencrypt) open(ctx context.Context, v *Value) (holds content, err error) {
	if v.In == nil {
		return content{null: true}, nil
	}
	from := Value{Address: v.Address, In: v.In}
	if from.Address.Column = r.Scheme().Column; r.From != 0 {
		from.Address.Column = r.From
	}
	plain, header, err := openCell(ctx, r.keyring, r.Learn, r.plain[:0], &from)
	if err != nil {
		return content{}, err
	}
	if to := r.Scheme().Codec; !to.Holds(header.Codec) {
		return content{}, fmt.Errorf("%w: scheme %d seals another type: %w", ErrValue, header.Scheme, cell.ErrWire)
	}
	if plain == nil {
		return content{null: true}, nil
	}
	r.plain = plain
	return content{value: plain}, nil
}
