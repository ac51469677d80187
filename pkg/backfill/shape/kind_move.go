package shape

import (
	"bytes"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// moving is the kind of a column whose source holds cells of another column: they are opened and sealed into its own, and
// what they hold is nowhere in between.
type moving struct {
	sealing
	from    uint32    // the column that the source's cells are of
	held    cell.Form // how the source holds them
	cutOver bool      // only verified: applications write the new cells by now, and nobody the old ones
}

// openMoving finds the cells on both sides. In reverse the source's cells are made anew of the target's.
func openMoving(c work.Column, source, target pg.Column, keyring *cell.Keyring) (kind, error) {
	scheme, known := keyring.Scheme(c.ID, c.Scheme)
	if !known {
		return nil, fmt.Errorf("open scheme %d of column %d: %w", c.Scheme, c.ID, cell.ErrUnknownScheme)
	}
	sealed, err := openSealingAs(c, scheme.Codec, target, keyring)
	if err != nil {
		return nil, err
	}
	held, holds := formOf(source)
	if !holds {
		return nil, fmt.Errorf("type of %s: %w", c.Source, keyspace.ErrChanged)
	}
	k := moving{sealing: sealed, from: c.Origin.Column, held: held, cutOver: c.Reverse}
	switch {
	case c.Reverse && c.Origin.Scheme != 0:
		return returning{k, c.Origin.Scheme, k.taking(keyring, c.Origin)}, nil
	case c.Compare:
		return comparing{k, k.sealing}, nil
	}
	return k, nil
}

func (k moving) input() operand { return operand{present(k.source), k.held == cell.FormBytes} }

func (k moving) evidence() [2]operand {
	return k.sides.evidence(k.held == cell.FormBytes, k.form == cell.FormBytes)
}

func (k moving) transform(keyring *cell.Keyring) (transform.Transform, error) {
	t, err := transform.NewReencrypt(keyring, k.scheme)
	if err != nil {
		return nil, err
	}
	t.From = k.from
	return transform.Formed(t, k.held, k.form), nil
}

// Judge opens both cells and compares. An old cell that does not open proves nothing of the new one.
func (k moving) Judge(w *Witness) (Verdict, error) {
	if w.Source == nil {
		return k.sourceless(w, k.cutOver)
	}
	plain, opened := w.openOf(k.from, k.held)
	switch {
	case w.Target == nil:
		return Verdict{Outcome: Uncovered, Image: plain, HasImage: opened}, nil
	case !opened:
		return Verdict{Outcome: Stale}, nil
	}
	v := w.open(k.form)
	v.Image, v.HasImage = plain, true
	if v.Opened && (w.null != (plain == nil) || !w.null && !bytes.Equal(w.opened, plain)) {
		v.Outcome = Stale
	}
	return v, nil
}

// openOf opens the source as a cell of another column in the same row, and leaves what it holds in w.plain; nil is NULL.
func (w *Witness) openOf(column uint32, form cell.Form) (plain []byte, opened bool) {
	sealed := w.Source
	if form != cell.FormBytes {
		var err error
		if sealed, err = form.Parse(nil, sealed); err != nil {
			return nil, false
		}
	}
	address := w.Address
	address.Column = column
	plain, _, err := w.Keyring.Open(w.plain[:0], address, sealed)
	if err != nil {
		return nil, false
	}
	if plain != nil {
		w.plain = plain
	}
	return plain, true
}

// returning is the kind of a column that moved, is cut over and goes back: its cells are sealed into the old ones.
type returning struct {
	moving
	number uint16 // of the old column's scheme
	along  string // see [taking]
}

func (k returning) input() operand { return operand{present(k.target), k.form == cell.FormBytes} }

// Output is echoed as in every reverse.
func (k returning) Output() Result {
	r := cells(k.source, k.held)
	r.Echoed, r.along = true, k.along
	return r
}

func (k returning) uncovered() string { return reverseUncovered(k.sides) }

func (k returning) transform(keyring *cell.Keyring) (transform.Transform, error) {
	scheme, known := keyring.Scheme(k.from, k.number)
	if !known {
		return nil, fmt.Errorf("open scheme %d of column %d: %w", k.number, k.from, cell.ErrUnknownScheme)
	}
	t, err := transform.NewReencrypt(keyring, scheme)
	if err != nil {
		return nil, err
	}
	t.From, t.Leaves = k.scheme.Column, k.along != ""
	return transform.Formed(t, k.form, k.held), nil
}
