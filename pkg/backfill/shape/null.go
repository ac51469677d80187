package shape

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Under a scheme that seals NULL a row is covered when it has a cell, whatever its source holds: what is in the cell no
// condition can tell. A row without a cell holds NULL for whoever reads it, and is uncovered.

// uncelled is the condition, of a row of alias t, that it has no cell.
func uncelled(target string) string { return present(target) + " IS NULL" }

// uncovered is that of a column whose scheme says which rows need a cell.
func (k sealing) uncovered() string {
	if k.scheme.SealsNulls() {
		return uncelled(k.target)
	}
	return k.sides.uncovered()
}

// missNulls finds the rows that a rotation to a scheme that seals NULL has to make cells for: those without one. What
// stands in a plaintext, as long as there is one, is no NULL, and a job of the plaintext seals it. It returns the
// condition of rows that need a cell, where there is one that still can be asked.
func (k *rotating) missNulls(relation pg.Relation, c work.Column) (*ddl.Condition, error) {
	k.missing = uncelled(k.target)
	if k.source == "" {
		return nil, nil
	}
	k.missing += fmt.Sprintf(" AND %s IS NOT DISTINCT FROM NULL", present(k.source))
	if c.Where == nil || c.Phase == lifecycle.PhaseCutOver { // then the names in it mean other columns
		return nil, nil
	}
	if !c.Where.Stands(relation) {
		return nil, fmt.Errorf("a column of %s, which the condition reads: %w", relation.Table(), keyspace.ErrChanged)
	}
	k.asks = true
	k.missing += " AND " + ddl.Column{ID: c.ID, Where: c.Where}.Within("t")
	return c.Where, nil
}

// unsealed judges a row without a source and without a cell.
func (k sealing) unsealed(w *Witness) Verdict {
	if k.scheme.SealsNulls() {
		return Verdict{Outcome: Uncovered, HasImage: true}
	}
	return w.authenticate(k.form)
}

// leftOver judges a row without a source that has a cell: a NULL of its own, or a value that nobody took away.
func (k sealing) leftOver(w *Witness) Verdict {
	if !k.scheme.SealsNulls() {
		return Verdict{Outcome: Uncovered, HasImage: true}
	}
	v := w.open(k.form)
	v.HasImage = true
	if v.Opened && !w.null {
		v.Outcome = Stale
	}
	return v
}

// taking is that of cells that go back into another column: one whose scheme seals NULL holds it, too.
func (k moving) taking(keyring *cell.Keyring, origin *work.Origin) string {
	if back, known := keyring.Scheme(origin.Column, origin.Scheme); known && back.SealsNulls() {
		return ""
	}
	return taking(keyring, k.scheme.Column, k.target)
}

// taking is what is set beside a plaintext that is made of a cell, or beside the cell of another column, where the cell
// may hold NULL: the cell is taken away. What is left is NULL on both sides, which is the same, and such a row is not
// opened again and again.
func taking(keyring *cell.Keyring, column uint32, target string) string {
	if !keyring.SealsNulls(column) {
		return ""
	}
	return fmt.Sprintf(", %s = CASE WHEN %%s IS DISTINCT FROM NULL THEN %s END", pg.Ident(target), present(target))
}

// sign is what a verification reads in the place of the cell of a row that needs none: no cell, and no NULL.
type sign struct{ sql, wire string }

func signIn(form cell.Form) *sign {
	switch form {
	case cell.FormText:
		return &sign{"''::pg_catalog.text", ""}
	case cell.FormJSON:
		return &sign{"'0'::pg_catalog.jsonb", "0"}
	}
	return &sign{"''::pg_catalog.bytea", ""}
}
