package shape

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Outcome is what a row's target is to its source.
type Outcome int

const (
	Covered   Outcome = iota // the target holds the source's value
	Uncovered                // it is missing, or left over
	Stale                    // it holds another value
	Broken                   // it does not open here, or is no cell at all
)

// Verdict is what was found of one column of one row. What it refers to lives until the next one.
type Verdict struct {
	Outcome  Outcome
	Ahead    bool // covered, and written since the cutover
	Unknown  bool // broken, for want of a scheme or key
	Opened   bool // it is a cell that opens, and this is its header:
	Header   cell.Header
	HasImage bool   // the row has an image for the digest:
	Image    []byte // this; nil is NULL
}

// Witness is one column of one row before its judge, with what the last one left as scratch.
type Witness struct {
	Context        context.Context // of the page, for sources that a server opens
	Keyring        *cell.Keyring
	Before         transform.Hook // what sources were changed by before they were sealed
	Address        cell.Address
	Source, Target []byte
	plain, opened  []byte // scratch
	null           bool   // the cell that was opened last holds NULL
	parsed         []byte // scratch
}

// authenticate opens a cell that there is no source to compare with.
func (w *Witness) authenticate(form cell.Form) Verdict {
	if w.Target == nil {
		return Verdict{Outcome: Covered, HasImage: true}
	}
	v := w.open(form)
	if v.Opened {
		v.HasImage = true
		if !w.null {
			v.Image = w.opened
		}
	}
	return v
}

// open opens a cell that stands in the target in this form; one that does not open is broken.
func (w *Witness) open(form cell.Form) (v Verdict) {
	w.null = false
	if form != cell.FormBytes {
		var err error
		if w.parsed, err = form.Parse(w.parsed[:0], w.Target); err != nil {
			return Verdict{Outcome: Broken}
		}
		w.Target = w.parsed
	}
	opened, header, err := w.Keyring.Open(w.opened[:0], w.Address, w.Target)
	v.Header, w.null = header, err == nil && opened == nil
	if opened != nil {
		w.opened = opened
	}
	if err != nil {
		return Verdict{Outcome: Broken, Unknown: errors.Is(err, cell.ErrUnknownScheme) || errors.Is(err, cell.ErrUnknownKey)}
	}
	v.Opened = true
	return v
}
