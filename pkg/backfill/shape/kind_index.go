package shape

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// indexing is the kind of a column whose values are the tokens of another column's cells.
type indexing struct {
	sides
	form    cell.Form // of the cells
	index   uint32
	blinder *cell.Blinder
}

// openIndexing finds the cells and the tokens; the column is called by the name of its tokens.
func openIndexing(relation pg.Relation, c work.Column, keyring *cell.Keyring) (Column, error) {
	source, found := relation.Column(c.Source)
	form, holds := formOf(source)
	target, both := relation.Column(c.Target)
	if !found || !both || !holds || source.Attnum != c.SourceAttnum || target.Attnum != c.TargetAttnum || target.TypeOID != pgtype.ByteaOID {
		return Column{}, fmt.Errorf("column %s or %s of %s: %w", c.Source, c.Target, relation.Table(), keyspace.ErrChanged)
	}
	blinder, err := keyring.Blinder(c.Index.ID)
	if err != nil {
		return Column{}, fmt.Errorf("open blind index %d of column %d: %w", c.Index.ID, c.ID, err)
	}
	k := indexing{sides: sides{c.Source, c.Target}, form: form, index: c.Index.ID, blinder: blinder}
	return Column{ID: c.ID, Source: c.Source, Target: c.Target, Listed: c.Index.Listed, kind: k}, nil
}

func (k indexing) input() operand { return operand{present(k.source), k.form == cell.FormBytes} }

// Output is not marked: the fleet leaves the cell alone, and a token that is sent beside another cell is thrown away.
func (k indexing) Output() Result {
	return Result{name: k.target, OID: pgtype.ByteaOID, Binary: true, List: pgtype.ByteaArrayOID}
}

func (k indexing) uncovered() string { return ddl.Token{Name: k.target, Cell: k.source}.Uncovered() }

func (k indexing) evidence() [2]operand { return k.sides.evidence(k.form == cell.FormBytes, true) }

func (k indexing) transform(keyring *cell.Keyring) (transform.Transform, error) {
	t, err := transform.NewBlind(keyring, k.index)
	if err != nil {
		return nil, err
	}
	return transform.Formed(t, k.form, cell.FormBytes), nil
}

// Judge makes the token of each cell again and compares.
func (k indexing) Judge(w *Witness) (Verdict, error) {
	token := w.Target
	w.Target = w.Source
	v := w.authenticate(k.form)
	switch {
	case v.Outcome == Broken || w.Source != nil && w.null: // a token would tell a NULL
		return Verdict{Outcome: Broken, Unknown: v.Unknown}, nil
	case (token == nil) != (w.Source == nil):
		return Verdict{Outcome: Uncovered}, nil
	case token == nil:
		return Verdict{Outcome: Covered}, nil
	}
	again, err := k.blinder.Token(w.plain[:0], w.opened)
	if errors.Is(err, cell.ErrWire) {
		return Verdict{Outcome: Broken}, nil
	}
	if err != nil {
		return Verdict{}, err
	}
	if w.plain = again; !bytes.Equal(token, again) {
		return Verdict{Outcome: Stale}, nil
	}
	return Verdict{Outcome: Covered}, nil
}
