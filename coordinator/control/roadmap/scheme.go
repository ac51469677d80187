package roadmap

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// schemeSteps are what brings a column that is written already to the schemes that the manifest lists: those that are
// not there yet are made, and the cells are brought under the one that is wanted.
func schemeSteps(l *status.Look, add func(to lifecycle.Phase, does, command, lock string)) {
	for _, number := range unmade(l) {
		add("", fmt.Sprintf("make scheme %d, with a key of its own", number), fmt.Sprintf("%s --number %d", nameOf(l).Command("scheme new"), number), "none")
	}
	if rotates(l) {
		add("", fmt.Sprintf("seal every cell anew under scheme %d", l.Wanted.Scheme), fmt.Sprintf("%s --to %d", nameOf(l).Command("rotate"), l.Wanted.Scheme), "of rows, a chunk at a time")
	}
}

// unmade are the numbers that the manifest lists and that can still be made: above all that the column ever had.
func unmade(l *status.Look) (numbers []int) {
	all := l.Survey.AllSchemes[l.Column.ID]
	if _, written := l.Survey.Schemes[l.Column.ID]; !written {
		return nil // its first one comes with its backfill
	}
	for _, number := range slices.Sorted(maps.Keys(l.Wanted.Schemes)) {
		if number > all[len(all)-1].Number {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// rotates says that the manifest wants a newer scheme written, which is there or can be made.
func rotates(l *status.Look) bool {
	is, written := l.Survey.Schemes[l.Column.ID]
	if !written || l.Wanted.Scheme <= is.Number {
		return false
	}
	return slices.Contains(unmade(l), l.Wanted.Scheme) || slices.ContainsFunc(l.Survey.AllSchemes[l.Column.ID], func(s status.Scheme) bool {
		return s.Number == l.Wanted.Scheme && s.State == lifecycle.SchemeReadable
	})
}

// schemeDifferences are what no step changes: a scheme never changes, and its number is never used again.
func schemeDifferences(l *status.Look) (list []Difference) {
	is, written := l.Survey.Schemes[l.Column.ID]
	if !written || l.Wanted.Scheme == 0 {
		return nil
	}
	differ := func(what, wanted, is string) {
		if wanted != is {
			list = append(list, Difference{what, wanted, is})
		}
	}
	if !rotates(l) {
		differ("scheme", strconv.Itoa(l.Wanted.Scheme), strconv.Itoa(is.Number))
	}
	for _, s := range l.Survey.AllSchemes[l.Column.ID] {
		wanted, listed := l.Wanted.Schemes[s.Number]
		if !listed || s.State == lifecycle.SchemeDestroyed {
			continue
		}
		what := "scheme"
		if s.Number != is.Number {
			what += " " + strconv.Itoa(s.Number)
		}
		differ(what+" suite", wanted.Suite, strings.ToLower(cell.Suite(s.Suite).String()))
		differ(what+" padding", strconv.Itoa(wanted.Padding), strconv.Itoa(s.Padding))
		differ(what+" binding", wanted.Binding, s.Binding)
		differ(what+" columns", strings.Join(wanted.Columns, ", "), strings.Join(l.BoundTo(s), ", "))
		differ(what+" nulls", wanted.Nulls, s.Nulls)
		differ(what+" tenant", wanted.Tenant, s.Tenant)
	}
	return list
}
