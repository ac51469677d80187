package transform

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Formed lets a transform that reads or makes cells work on columns that hold them in other forms than bytes: from is
// the form of what is read, to of what is made, [cell.FormBytes] where that is no cell.
func Formed(inner Transform, from, to cell.Form) Transform {
	if from == cell.FormBytes && to == cell.FormBytes {
		return inner
	}
	return &formed{inner: inner, from: from, to: to}
}

// Inner is the transform that does the work of one that [Formed], [Opened] or [Before] made, or else t itself.
func Inner(t Transform) Transform {
	switch t := t.(type) {
	case *formed:
		return Inner(t.inner)
	case *altered:
		return Inner(t.inner)
	}
	return t
}

type formed struct {
	inner    Transform
	from, to cell.Form
	values   []Value // scratch
}

// Apply is the inner one's. A value that is not the form of a cell is an [ErrValue].
func (f *formed) Apply(ctx context.Context, values []Value) error {
	f.values = append(f.values[:0], values...)
	defer clear(f.values)
	if f.from != cell.FormBytes {
		if err := f.parse(); err != nil {
			return err
		}
	}
	f.parseStored()
	if err := f.inner.Apply(ctx, f.values); err != nil {
		return err
	}
	if f.to == cell.FormBytes {
		for i := range values {
			values[i].Out, values[i].Kept, values[i].Null = f.values[i].Out, f.values[i].Kept, f.values[i].Null
		}
		return nil
	}
	f.write(values)
	return nil
}

func (f *formed) parse() error {
	size := 0
	for i := range f.values {
		size += len(f.values[i].In)
	}
	arena := make([]byte, 0, size)
	for i := range f.values {
		v, start := &f.values[i], len(arena)
		if v.In == nil {
			continue
		}
		var err error
		if arena, err = f.from.Parse(arena, v.In); err != nil {
			return fmt.Errorf("%w: %w", ErrValue, err)
		}
		v.In = arena[start:len(arena):len(arena)]
	}
	return nil
}

// parseStored parses what is stored already; what is no cell cannot stay.
func (f *formed) parseStored() {
	for i := range f.values {
		v := &f.values[i]
		if v.Is == nil || f.to == cell.FormBytes {
			continue
		}
		var err error
		if v.Is, err = f.to.Parse(nil, v.Is); err != nil {
			v.Is = nil
		}
	}
}

func (f *formed) write(values []Value) {
	size := 0
	for i := range f.values {
		size += f.to.Length(len(f.values[i].Out))
	}
	arena := make([]byte, 0, size)
	for i := range values {
		start := len(arena)
		values[i].Kept, values[i].Null = f.values[i].Kept, f.values[i].Null
		if values[i].Out = nil; f.values[i].Out != nil {
			arena = f.to.Append(arena, f.values[i].Out)
			values[i].Out = arena[start:len(arena):len(arena)]
		}
	}
}
