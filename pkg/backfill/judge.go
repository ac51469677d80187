package backfill

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// outcome is what a row's target is to its source.
type outcome int

const (
	covered   outcome = iota // the target holds the source's value
	uncovered                // it is missing, or left over
	stale                    // it holds another value
	broken                   // it does not open here, or is no cell at all
)

// verdict is what was found of one column of one row. What it refers to lives until the next one.
type verdict struct {
	outcome outcome
	ahead   bool // covered, and written since the cutover
	unknown bool // broken, for want of a scheme or key
	opened  bool // it is a cell that opens, and this is its header:
	header  cell.Header
	imaged  bool   // the row has an image for the digest:
	image   []byte // this; nil is NULL
}

// witness is one column of one row before its judge, with what the last one left as scratch.
type witness struct {
	ctx            context.Context // of the page, for sources that a server opens
	keyring        *cell.Keyring
	before         transform.Hook // what sources were changed by before they were sealed
	address        cell.Address
	source, target []byte
	plain, opened  []byte // scratch
	parsed         []byte // scratch
}

// authenticate opens a cell that there is no source to compare with.
func (w *witness) authenticate(form cell.Form) verdict {
	if w.target == nil {
		return verdict{outcome: covered, imaged: true}
	}
	v := w.open(form)
	if v.opened {
		v.image, v.imaged = w.opened, true
	}
	return v
}

// open opens a cell that stands in the target in this form; one that does not open is broken.
func (w *witness) open(form cell.Form) (v verdict) {
	var err error
	if form != cell.FormBytes {
		if w.parsed, err = form.Parse(w.parsed[:0], w.target); err != nil {
			return verdict{outcome: broken}
		}
		w.target = w.parsed
	}
	w.opened, v.header, err = w.keyring.Open(w.opened[:0], w.address, w.target)
	if err != nil {
		return verdict{outcome: broken, unknown: errors.Is(err, cell.ErrUnknownScheme) || errors.Is(err, cell.ErrUnknownKey)}
	}
	v.opened = true
	return v
}
