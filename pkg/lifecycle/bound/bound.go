// Package bound finds the columns that the cells of a scheme are bound to, where that is not the row's key.
//
// Words: a bound column is one whose value is part of the address of a row's cell; a binding is the list of them, in the
// order of the scheme. It is kept by attribute numbers, and read by the names of this moment: [cell.BoundTo] says how it
// is written.
package bound

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Binding is a binding, as its columns stand in the table now.
type Binding struct {
	Label   string      // as the scheme has it: [cell.Scheme.Columns]
	Columns []pg.Column // in the scheme's order
	Keys    *cell.KeyEncoder
}

// Names are the present names of the columns.
func (b Binding) Names() []string {
	names := make([]string, len(b.Columns))
	for i, c := range b.Columns {
		names[i] = c.Name
	}
	return names
}

// ChangedError says that cells are bound to a column that is not what it was: no cell can be sealed or opened by it.
type ChangedError struct {
	Table  pg.Table
	Column string // its name, or its number if it is gone
	Why    string
}

// Error says which column, and what became of it.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("column %s of %s, which cells are bound to, %s", e.Column, e.Table, e.Why)
}

// Hint says what to do.
func (e *ChangedError) Hint() string {
	return "make the column what it was: cells open by its values alone; a scheme that no cell is left of can be retired, and is no hindrance then"
}

// Of finds the columns of a binding by their numbers; a [*ChangedError] if one is gone, may be NULL, or is of a type
// whose values are encoded otherwise.
func Of(relation pg.Relation, label string) (b Binding, err error) {
	b.Label = label
	numbers := cell.Scheme{Columns: label}.BoundNumbers()
	for _, number := range numbers {
		column := relation.ColumnAt(number)
		e := &ChangedError{Table: relation.Table(), Column: fmt.Sprintf("%q", column.Name)}
		switch {
		case column.Attnum == 0:
			e.Column, e.Why = fmt.Sprintf("number %d", number), "is gone"
			return b, e
		case !column.NotNull:
			e.Why = "may be NULL by now, and a NULL has no encoding"
			return b, e
		}
		b.Columns = append(b.Columns, column)
	}
	if b.Keys, err = encoder(b.Columns); err != nil || cell.BoundTo(numbers, b.Keys) != label {
		return b, &ChangedError{Table: relation.Table(), Column: strings.Join(b.Names(), ", "), Why: "has another type than when the scheme was made"}
	}
	return b, nil
}

// All are the bindings with these labels.
func All(relation pg.Relation, labels []string) ([]Binding, error) {
	var list []Binding
	for _, label := range labels {
		b, err := Of(relation, label)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// Distinct are the names of all bound columns, each once.
func Distinct(list []Binding) (names []string) {
	for _, b := range list {
		for _, name := range b.Names() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Names are the present names of a binding's columns, for people: one that is gone is #7, by its number.
func Names(relation pg.Relation, label string) []string {
	names := []string{}
	for _, number := range (cell.Scheme{Columns: label}).BoundNumbers() {
		if column := relation.ColumnAt(number); column.Attnum != 0 {
			names = append(names, column.Name)
		} else {
			names = append(names, fmt.Sprintf("#%d", number))
		}
	}
	return names
}

// Label is how a scheme says that it is bound to these columns.
func Label(columns []pg.Column) (string, error) {
	keys, err := encoder(columns)
	if err != nil {
		return "", err
	}
	numbers := make([]int16, len(columns))
	for i, c := range columns {
		numbers[i] = c.Attnum
	}
	return cell.BoundTo(numbers, keys), nil
}

func encoder(columns []pg.Column) (*cell.KeyEncoder, error) {
	types := make([]cell.TypeInfo, len(columns))
	for i, c := range columns {
		types[i] = typeInfo(c.Base)
	}
	return cell.NewKeyEncoder(types)
}

func typeInfo(t pg.Type) cell.TypeInfo {
	info := cell.TypeInfo{OID: t.OID, Name: t.Name, Kind: t.Kind[0], Category: t.Category[0]}
	for _, part := range t.Parts {
		info.Parts = append(info.Parts, typeInfo(part))
	}
	return info
}
