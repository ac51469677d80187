package backfill

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// SpecIndex is the blind index that a job fills: it reads the cells that stand in the column's source, whatever became of
// their plaintext, and writes tokens to its target. In the log it is a column of its own.
type SpecIndex struct {
	ID     uint32 `json:"id"`
	Name   string `json:"name"`
	Missed int64  `json:"missed"` // rows that had been left without a token when the job was asked for; see [ddl.TokenMissed]
}

// indexing is the kind of a column whose values are the tokens of another column's cells.
type indexing struct {
	sides
	form    cell.Form // of the cells
	index   uint32
	blinder *cell.Blinder
}

// openIndexing finds the cells and the tokens; the column is called by the name of its tokens.
func openIndexing(relation pg.Relation, c SpecColumn, keyring *cell.Keyring) (Column, error) {
	source, found := relation.Column(c.Source)
	form, holds := formOf(source)
	target, both := relation.Column(c.Target)
	if !found || !both || !holds || source.Attnum != c.SourceAttnum || target.Attnum != c.TargetAttnum || target.TypeOID != pgtype.ByteaOID {
		return Column{}, fmt.Errorf("column %s or %s of %s: %w", c.Source, c.Target, relation.Table(), ErrShape)
	}
	blinder, err := keyring.Blinder(c.Index.ID)
	if err != nil {
		return Column{}, fmt.Errorf("open blind index %d of column %d: %w", c.Index.ID, c.ID, err)
	}
	k := indexing{sides: sides{c.Source, c.Target}, form: form, index: c.Index.ID, blinder: blinder}
	return Column{ID: c.ID, Source: c.Source, Target: c.Target, kind: k}, nil
}

func (k indexing) input() operand { return operand{present(k.source), k.form == cell.FormBytes} }

// output is not marked: the fleet leaves the cell alone, and a token that is sent beside another cell is thrown away.
func (k indexing) output() result {
	return result{name: k.target, oid: pgtype.ByteaOID, isBinary: true, list: pgtype.ByteaArrayOID}
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

// judge makes the token of each cell again and compares.
func (k indexing) judge(w *witness) (verdict, error) {
	token := w.target
	w.target = w.source
	v := w.authenticate(k.form)
	switch {
	case v.outcome == broken:
		return verdict{outcome: broken, unknown: v.unknown}, nil
	case (token == nil) != (w.source == nil):
		return verdict{outcome: uncovered}, nil
	case token == nil:
		return verdict{outcome: covered}, nil
	}
	again, err := k.blinder.Token(w.plain[:0], w.opened)
	if errors.Is(err, cell.ErrWire) {
		return verdict{outcome: broken}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	if w.plain = again; !bytes.Equal(token, again) {
		return verdict{outcome: stale}, nil
	}
	return verdict{outcome: covered}, nil
}
