package status

import (
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
)

// BoundTo are the present names of the columns that a scheme of the column is bound to; none if it is bound to none.
func (l *Look) BoundTo(s Scheme) []string {
	if s.Columns == "" {
		return nil
	}
	return bound.Names(l.Relation, s.Columns)
}

// schemeRows are so many cells of a scheme.
func (l *Look) schemeRows(number int, rows int64) SchemeRows {
	r := SchemeRows{Number: number, Rows: rows}
	for _, s := range l.Survey.AllSchemes[l.Column.ID] {
		if s.Number == number {
			r.Bound = strings.Join(l.BoundTo(s), ", ")
		}
	}
	return r
}

// flagBound looks at the columns that cells are bound to, and at what looks after them.
func (l *Look) flagBound() {
	var rows []lifecycle.SchemeRow
	for _, s := range l.Survey.AllSchemes[l.Column.ID] {
		row := lifecycle.SchemeRow{State: s.State}
		row.Scheme = cell.Scheme{Columns: s.Columns}
		rows = append(rows, row)
	}
	labels := standing.Labels(rows)
	if len(labels) == 0 || l.Sealed.Attnum == 0 {
		return
	}
	list, err := bound.All(l.Relation, labels)
	l.flag(FlagBoundChanged, err != nil)
	is := standing.Standing{Column: l.Column, Relation: l.Relation, Sealed: l.Sealed}
	_, late := standing.Late(l.Relation)
	l.flag(FlagBoundUnwatched, err == nil && (late || !is.IsBound(bound.Distinct(list))))
}
