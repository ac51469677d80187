package preflight

import (
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// BindTo is how a scheme of a column says that it is bound to these columns of its table, or the refusal of what cells
// cannot be bound to. Source and target are the column's own, 0: not there; field is what a refusal is about.
func BindTo(field string, r pg.Relation, registered []lifecycle.Column, names []string, source, target int16) (label string, err error) {
	var columns []pg.Column
	for _, name := range names {
		column, err := boundable(field, r, registered, name, source, target)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(columns, func(other pg.Column) bool { return other.Attnum == column.Attnum }) {
			return "", standing.Reject(field, "name each column once", "column %q is named twice", name)
		}
		columns = append(columns, column)
	}
	if label, err = bound.Label(columns); err != nil {
		_, why, _ := strings.Cut(err.Error(), ": ")
		return "", standing.Refuse(field, "name columns whose values are the same everywhere", "cells cannot be bound to (%s): %s", strings.Join(names, ", "), why)
	}
	return label, nil
}

// Bound are the columns that cells are bound to by the first scheme that the column gets, and that need looking after.
func (c Column) Bound(r pg.Relation) []string {
	if !c.Fresh {
		return nil
	}
	return bound.Names(r, c.First(0).Columns)
}

// boundable finds a column that cells can be bound to.
func boundable(field string, r pg.Relation, registered []lifecycle.Column, name string, source, target int16) (pg.Column, error) {
	column, found := r.Column(name)
	switch {
	case !found:
		return column, standing.Lack(field, "name columns of the table, as it calls them", "%s has no column %q", r.Table(), name)
	case column.Attnum == source || column.Attnum == target:
		return column, standing.Refuse(field, "name another column", "column %q is the one that is encrypted: its cells cannot be bound to itself", name)
	case ofOurs(r, registered, column):
		return column, standing.Refuse(field, "name another column", "column %q holds what cipherfleet makes, or is encrypted itself: it does not stay what it is", name)
	case column.Generated != "":
		return column, standing.Refuse(field, "name the columns that it is made of", "column %q is generated: its value is not there yet when a row's cell is looked after", name)
	case !column.NotNull:
		return column, standing.Refuse(field, "ALTER TABLE "+r.Table().SQL()+" ALTER COLUMN "+pg.Ident(name)+" SET NOT NULL, or name another column",
			"column %q may be NULL, and a NULL has no encoding that a cell could be bound to", name)
	}
	return column, nil
}

// ofOurs says that a column holds cells or tokens, or the plaintext of cells.
func ofOurs(r pg.Relation, registered []lifecycle.Column, column pg.Column) bool {
	return slices.ContainsFunc(r.Checks, func(k pg.Check) bool {
		return strings.HasPrefix(k.Name, "cipherfleet_") && slices.Contains(k.Columns, column.Name)
	}) || slices.ContainsFunc(registered, func(c lifecycle.Column) bool {
		return column.Attnum == c.SourceNum || column.Attnum == c.TargetNum
	})
}
