package shape

import (
	"bytes"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// sealing is the kind of a column whose source is plaintext and whose target holds its cells.
type sealing struct {
	sides
	form   cell.Form // of the target
	codec  cell.Codec
	scheme cell.Scheme
}

// openSealing finds the column's scheme, and refuses it for a source of another type than it was made for.
func openSealing(c work.Column, source, target pg.Column, keyring *cell.Keyring) (sealing, error) {
	codec, err := cell.CodecFor(keyspace.TypeInfo(source.Base))
	if err != nil {
		return sealing{}, fmt.Errorf("type of %s: %w", c.Source, keyspace.ErrChanged)
	}
	return openSealingAs(c, codec, target, keyring)
}

// openSealingAs is the same for values of a codec.
func openSealingAs(c work.Column, codec cell.Codec, target pg.Column, keyring *cell.Keyring) (sealing, error) {
	scheme, known := keyring.Scheme(c.ID, c.Scheme)
	if !known {
		return sealing{}, fmt.Errorf("open scheme %d of column %d: %w", c.Scheme, c.ID, cell.ErrUnknownScheme)
	}
	if codec != scheme.Codec {
		return sealing{}, fmt.Errorf("type of %s: %w", c.Source, keyspace.ErrChanged)
	}
	form, holds := formOf(target)
	if !holds {
		return sealing{}, fmt.Errorf("type of %s: %w", c.Target, keyspace.ErrChanged)
	}
	return sealing{sides: sides{c.Source, c.Target}, form: form, codec: codec, scheme: scheme}, nil
}

func (k sealing) binary() bool { return k.codec.Wire() == cell.Binary }

func (k sealing) input() operand { return operand{present(k.source), k.binary()} }

func (k sealing) Output() Result {
	return cells(k.target, k.form)
}

func (k sealing) evidence() [2]operand {
	return k.sides.evidence(k.binary(), k.form == cell.FormBytes)
}

func (k sealing) transform(keyring *cell.Keyring) (transform.Transform, error) {
	t, err := transform.NewEncrypt(keyring, k.scheme)
	if err != nil {
		return nil, err
	}
	return transform.Formed(t, cell.FormBytes, k.form), nil
}

// sourceless judges a row without a source. After a cutover nobody writes the source any more, so that its cell is ahead.
func (k sealing) sourceless(w *Witness, cutOver bool) (Verdict, error) {
	if w.Target == nil || !cutOver {
		return k.Judge(w)
	}
	v := w.authenticate(k.form)
	v.Ahead = v.Outcome == Covered && !w.null
	return v, nil
}

// Judge compares a source with what its target holds.
func (k sealing) Judge(w *Witness) (Verdict, error) {
	if w.Source == nil && w.Target == nil {
		return k.unsealed(w), nil
	}
	return k.compare(w)
}

func (k sealing) compare(w *Witness) (Verdict, error) {
	if w.Source == nil {
		return k.leftOver(w), nil
	}
	source, err := w.Before.Wire(w.Source)
	switch { // a row that the hook refuses has nothing to be covered by
	case err != nil && w.Target == nil:
		return Verdict{Outcome: Uncovered}, nil
	case err != nil:
		return Verdict{Outcome: Stale}, nil
	}
	if w.plain, err = k.codec.Encode(w.plain[:0], source); err != nil {
		return Verdict{}, fmt.Errorf("encode a value of column %d: %w", w.Address.Column, err)
	}
	if w.Target == nil {
		return Verdict{Outcome: Uncovered, Image: w.plain, HasImage: true}, nil
	}
	v := w.open(k.form)
	v.Image, v.HasImage = w.plain, true
	if v.Opened && (w.null || !bytes.Equal(w.opened, w.plain)) {
		v.Outcome = Stale
	}
	return v, nil
}

// opening is the kind of a column that is cut over and goes back: cells are opened into the plaintext.
type opening struct {
	sealing
	typ   cell.TypeInfo // of the source, domains taken off
	array uint32        // of the arrays that list its values
	along string        // see [taking]
	cast  string        // what brings an element of them to its type
}

func (k opening) input() operand { return operand{present(k.target), k.form == cell.FormBytes} }

// Output is echoed: a type may round a plaintext, a trigger change it. Cells are guarded by their check, and by their tags.
func (k opening) Output() Result {
	return Result{name: k.source, OID: k.typ.OID, Binary: k.binary(), List: k.array, cast: k.cast, Echoed: true, along: k.along}
}

// uncovered is a missing plaintext alone: one that has no cell may be all that is left of a value.
func (k opening) uncovered() string { return reverseUncovered(k.sides) }

func reverseUncovered(s sides) string {
	return present(s.target) + " IS NOT NULL AND " + present(s.source) + " IS NOT DISTINCT FROM NULL"
}

func (k opening) transform(keyring *cell.Keyring) (transform.Transform, error) {
	return transform.Formed(transform.NewDecrypt(keyring, k.codec, k.typ), k.form, cell.FormBytes), nil
}

// Judge finds cells that were written since the cutover: they need no plaintext yet.
func (k opening) Judge(w *Witness) (Verdict, error) {
	if w.Source != nil {
		return k.compare(w)
	}
	if w.Target == nil {
		return k.unsealed(w), nil
	}
	v := w.authenticate(k.form)
	v.Ahead = v.Outcome == Covered && !w.null
	return v, nil
}

// proving is the kind of a column whose plaintext is gone. Nothing is made of it: cells are opened to see whether they do.
type proving struct{ sealing }

func (k proving) evidence() [2]operand { return k.sides.evidence(false, k.form == cell.FormBytes) }

func (k proving) Judge(w *Witness) (Verdict, error) {
	if w.Target == nil {
		return k.unsealed(w), nil
	}
	return w.authenticate(k.form), nil
}

// arrays says whether values of a type can be sent as an array of it. There are no arrays of arrays, unnest takes those
// of records to pieces, and a few types have a separator of their own.
func arrays(t pg.Type) bool { return t.ArrayOID != 0 && t.Kind != "c" && t.Delimiter == "," }

// openOpening is the kind of a column in reverse.
func openOpening(s sealing, source pg.Type, along string) opening {
	k := opening{sealing: s, typ: keyspace.TypeInfo(source), array: source.ArrayOID, along: along}
	if !arrays(source) {
		k.array, k.cast = pgtype.TextArrayOID, "::"+source.SQL
	}
	return k
}

// formOf is how a column of this type holds cells; false: it does not.
func formOf(target pg.Column) (cell.Form, bool) {
	form := ddl.FormOf(target)
	return form, form != cell.FormBytes || target.TypeOID == pgtype.ByteaOID
}

// cells is a column that is written cells to.
func cells(name string, form cell.Form) Result {
	switch form {
	case cell.FormText:
		return Result{name: name, OID: pgtype.TextOID, List: pgtype.TextArrayOID}
	case cell.FormJSON:
		return Result{name: name, OID: pgtype.JSONBOID, List: pgtype.JSONBArrayOID}
	}
	return Result{name: name, OID: pgtype.ByteaOID, Binary: true, List: pgtype.ByteaArrayOID}
}
