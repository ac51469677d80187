package backfill

import (
	"bytes"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// sealing is the kind of a column whose source is plaintext and whose target holds its cells.
type sealing struct {
	sides
	codec  cell.Codec
	scheme cell.Scheme
}

// openSealing finds the column's scheme, and refuses it for a source of another type than it was made for.
func openSealing(c SpecColumn, source pg.Column, keyring *cell.Keyring) (sealing, error) {
	scheme, known := keyring.Scheme(c.ID, c.Scheme)
	if !known {
		return sealing{}, fmt.Errorf("open scheme %d of column %d: %w", c.Scheme, c.ID, cell.ErrUnknownScheme)
	}
	codec, err := cell.CodecFor(TypeInfo(source.Base))
	if err != nil || codec != scheme.Codec {
		return sealing{}, fmt.Errorf("type of %s: %w", c.Source, ErrShape)
	}
	return sealing{sides: sides{c.Source, c.Target}, codec: codec, scheme: scheme}, nil
}

func (k sealing) binary() bool { return k.codec.Wire() == cell.Binary }

func (k sealing) input() operand { return operand{present(k.source), k.binary()} }

func (k sealing) output() result {
	return result{name: k.target, oid: oidBytea, isBinary: true, list: oidByteaArray}
}

func (k sealing) evidence() [2]operand { return k.sides.evidence(k.binary(), true) }

func (k sealing) transform(keyring *cell.Keyring) (transform.Transform, error) {
	return transform.NewEncrypt(keyring, k.scheme)
}

// judge compares a source with what its target holds.
func (k sealing) judge(w *witness) (verdict, error) {
	if w.source == nil && w.target == nil {
		return w.authenticate(), nil
	}
	return k.compare(w)
}

func (k sealing) compare(w *witness) (verdict, error) {
	if w.source == nil {
		return verdict{outcome: uncovered, imaged: true}, nil
	}
	source, err := w.before.Wire(w.source)
	switch { // a row that the hook refuses has nothing to be covered by
	case err != nil && w.target == nil:
		return verdict{outcome: uncovered}, nil
	case err != nil:
		return verdict{outcome: stale}, nil
	}
	if w.plain, err = k.codec.Encode(w.plain[:0], source); err != nil {
		return verdict{}, fmt.Errorf("encode a value of column %d: %w", w.address.Column, err)
	}
	if w.target == nil {
		return verdict{outcome: uncovered, image: w.plain, imaged: true}, nil
	}
	v := w.open()
	v.image, v.imaged = w.plain, true
	if v.opened && !bytes.Equal(w.opened, w.plain) {
		v.outcome = stale
	}
	return v, nil
}

// opening is the kind of a column that is cut over and goes back: cells are opened into the plaintext.
type opening struct {
	sealing
	typ   cell.TypeInfo // of the source, domains taken off
	array uint32        // of the arrays that list its values
	cast  string        // what brings an element of them to its type
}

func (k opening) input() operand { return operand{present(k.target), true} }

// output is echoed: a type may round a plaintext, a trigger change it. Cells are guarded by their check, and by their tags.
func (k opening) output() result {
	return result{name: k.source, oid: k.typ.OID, isBinary: k.binary(), list: k.array, cast: k.cast, echoed: true}
}

// uncovered is a missing plaintext alone: one that has no cell may be all that is left of a value.
func (k opening) uncovered() string { return reverseUncovered(k.sides) }

func reverseUncovered(s sides) string {
	return present(s.target) + " IS NOT NULL AND " + present(s.source) + " IS NOT DISTINCT FROM NULL"
}

func (k opening) transform(keyring *cell.Keyring) (transform.Transform, error) {
	return transform.NewDecrypt(keyring, k.codec, k.typ), nil
}

// judge finds cells that were written since the cutover: they need no plaintext yet.
func (k opening) judge(w *witness) (verdict, error) {
	if w.source != nil {
		return k.compare(w)
	}
	v := w.authenticate()
	v.ahead = w.target != nil && v.outcome == covered
	return v, nil
}

// proving is the kind of a column whose plaintext is gone. Nothing is made of it: cells are opened to see whether they do.
type proving struct{ sealing }

func (k proving) evidence() [2]operand { return k.sides.evidence(false, true) }

func (proving) judge(w *witness) (verdict, error) { return w.authenticate(), nil }

// arrays says whether values of a type can be sent as an array of it. There are no arrays of arrays, unnest takes those
// of records to pieces, and a few types have a separator of their own.
func arrays(t pg.Type) bool { return t.ArrayOID != 0 && t.Kind != "c" && t.Delimiter == "," }

// openOpening is the kind of a column in reverse.
func openOpening(s sealing, source pg.Type) opening {
	k := opening{sealing: s, typ: TypeInfo(source), array: source.ArrayOID}
	if !arrays(source) {
		k.array, k.cast = oidTextArray, "::"+source.SQL
	}
	return k
}
