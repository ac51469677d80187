package shape

import (
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// rotating is the kind of a column whose cells are sealed anew: it reads and writes the target, whatever its source is
// or was. A cell of another scheme than the one it seals under is uncovered; where that seals NULL, so is a row of NULL that
// has none.
type rotating struct {
	sides
	form    cell.Form // of the target
	scheme  cell.Scheme
	missing string // the condition, of a row of alias t, that it lacks the cell of a NULL; "": none does
	asks    bool   // that may raise an error
}

// openRotation finds the cells and the scheme; a source need not be there any more.
func openRotation(relation pg.Relation, c work.Column, keyring *cell.Keyring) (Column, error) {
	target, found := relation.Column(c.Target)
	form, holds := formOf(target)
	if !found || target.Attnum != c.TargetAttnum || !holds {
		return Column{}, fmt.Errorf("column %s of %s: %w", c.Target, relation.Table(), keyspace.ErrChanged)
	}
	scheme, known := keyring.Scheme(c.ID, c.Scheme)
	if !known {
		return Column{}, fmt.Errorf("open scheme %d of column %d: %w", c.Scheme, c.ID, cell.ErrUnknownScheme)
	}
	column := Column{ID: c.ID, Target: c.Target}
	k := rotating{sides: sides{target: c.Target}, form: form, scheme: scheme}
	if scheme.SealsNulls() {
		column.Source = relation.ColumnAt(c.SourceAttnum).Name
		k.source = column.Source
		var err error
		if column.Where, err = k.missNulls(relation, c); err != nil {
			return Column{}, err
		}
	}
	column.kind = k
	return column, nil
}

func (k rotating) input() operand { return operand{present(k.target), k.form == cell.FormBytes} }

func (k rotating) Output() Result { return cells(k.target, k.form) }

func (k rotating) uncovered() string {
	other := ddl.OtherScheme(present(k.target), k.form, k.scheme.Number)
	if k.missing == "" {
		return other
	}
	return fmt.Sprintf("(%s OR %s)", k.missing, other)
}

func (k rotating) fallible() bool { return k.asks }

func (k rotating) evidence() [2]operand { return k.sides.evidence(false, k.form == cell.FormBytes) }

func (k rotating) transform(keyring *cell.Keyring) (transform.Transform, error) {
	t, err := transform.NewReencrypt(keyring, k.scheme)
	if err != nil {
		return nil, err
	}
	return transform.Formed(t, k.form, k.form), nil
}

// Judge opens every cell; one of another scheme is still to be sealed anew.
func (k rotating) Judge(w *Witness) (Verdict, error) {
	if w.Target == nil && w.Source == nil && k.scheme.SealsNulls() {
		return Verdict{Outcome: Uncovered, HasImage: true}, nil
	}
	v := w.authenticate(k.form)
	if v.Opened && v.Header.Scheme != k.scheme.Number {
		v.Outcome = Uncovered
	}
	return v, nil
}

// Writer is what the fleet says of itself in a transaction over this shape.
func (s *Shape) Writer() string {
	if slices.ContainsFunc(s.Columns, func(c Column) bool { _, rotates := c.kind.(rotating); return !rotates }) {
		return ddl.WriterFleet
	}
	return ddl.WriterRotation
}
