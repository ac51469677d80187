package transform

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Decrypt opens cells of one column, of whichever scheme, and yields what Postgres accepts for the column's type in
// the codec's wire format.
type Decrypt struct {
	// Learn says whether a scheme or key that was unknown may be known by now: the registry was read again. Nil: never.
	Learn func(ctx context.Context, err error) bool

	keyring *cell.Keyring
	codec   cell.Codec
	typ     cell.TypeInfo
	plain   []byte // scratch
}

// NewDecrypt makes a Decrypt for one goroutine. Codec is the one that reads and writes columns of type typ.
func NewDecrypt(keyring *cell.Keyring, codec cell.Codec, typ cell.TypeInfo) *Decrypt {
	return &Decrypt{keyring: keyring, codec: codec, typ: typ}
}

// Apply opens every cell. An error means that the whole batch must be thrown away; it is [ErrValue] if a cell does not
// open in its row, or holds what the column's type cannot.
func (d *Decrypt) Apply(ctx context.Context, values []Value) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	size := 0
	for i := range values {
		size += len(values[i].In)
	}
	arena := make([]byte, 0, size) // what is opened is shorter than its cell
	for i := range values {
		var err error
		if arena, err = d.open(ctx, arena, &values[i]); err != nil {
			return fmt.Errorf("open a cell of column %d: %w", values[i].Address.Column, err)
		}
	}
	return nil
}

func (d *Decrypt) open(ctx context.Context, arena []byte, v *Value) ([]byte, error) {
	v.Out, v.Null = nil, false
	if v.In == nil {
		return arena, nil
	}
	plain, header, err := openCell(ctx, d.keyring, d.Learn, d.plain[:0], v)
	if err != nil {
		return arena, err
	}
	if scheme, known := d.keyring.Scheme(header.Column, header.Scheme); !known || scheme.Codec != d.codec {
		return arena, fmt.Errorf("%w: scheme %d seals another type: %w", ErrValue, header.Scheme, cell.ErrWire)
	}
	if v.Null = plain == nil; v.Null {
		return arena, nil
	}
	d.plain = plain
	start := len(arena)
	if arena, err = d.codec.Decode(arena, plain, d.typ); err != nil {
		return arena, fmt.Errorf("%w: %w", ErrValue, err)
	}
	v.Out = arena[start:len(arena):len(arena)]
	return arena, nil
}
