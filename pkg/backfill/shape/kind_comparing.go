package shape

import (
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// comparing is a kind whose target holds cells, where those are there from a time when nobody noticed who missed them: of
// a row that has its cell the cell is read too, and stays if it opens to the source. A row whose cells all stay is left as
// it is. Whoever misses a cell by now is caught, so one look at each row is enough.
type comparing struct {
	kind
	of sealing // between the same sides
}

func (k comparing) fallible() bool {
	f, is := k.kind.(interface{ fallible() bool })
	return is && f.fallible()
}

// suspect is the condition, of a row of alias t, that it has a cell beside a value, or beside what a cell holds, too.
func (k comparing) suspect() string {
	if k.of.scheme.SealsNulls() {
		return fmt.Sprintf("(%s IS DISTINCT FROM NULL)", present(k.of.target))
	}
	return fmt.Sprintf("(%s IS DISTINCT FROM NULL AND %s IS DISTINCT FROM NULL)", present(k.of.target), present(k.of.source))
}

// stored is the cell of a suspect row.
func (k comparing) stored() operand {
	return operand{fmt.Sprintf("CASE WHEN %s THEN %s END", k.suspect(), present(k.of.target)), k.of.form == cell.FormBytes}
}

// Compares says that cells that are there are read and compared, too.
func (c Column) Compares() bool {
	_, is := c.kind.(comparing)
	return is
}

// compares says that rows are read, too, that have their cells.
func (s *Shape) compares() bool {
	return slices.ContainsFunc(s.Columns, Column.Compares)
}

// wanted is the condition on a row that has to be looked at.
func (s *Shape) wanted() string {
	terms := s.uncovered()
	for _, c := range s.Columns {
		if k, is := c.kind.(comparing); is {
			terms += " OR " + k.suspect()
		}
	}
	return terms
}

// stored is what is read last of a row where cells are compared: that it is covered, and its cells.
func (s *Shape) stored() (list []operand) {
	if !s.compares() {
		return nil
	}
	list = append(list, operand{"NOT (" + s.uncovered() + ")", true})
	for _, c := range s.Columns {
		if k, is := c.kind.(comparing); is {
			list = append(list, k.stored())
		}
	}
	return list
}
