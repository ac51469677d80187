package shape

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// kind is what differs between the ways in which a column's values are made. A new one is a file with its type, and a
// line in [openColumn]; what it does not say for itself it has from [sides].
type kind interface {
	input() operand                  // what a value is made from
	Output() Result                  // where it goes
	uncovered() string               // the condition, of a row of alias t, that its value is still to be made
	evidence() [2]operand            // what a verification reads: source and target
	Judge(*Witness) (Verdict, error) // what they are to each other
	transform(*cell.Keyring) (transform.Transform, error)
}

// operand is something that is read of each row.
type operand struct {
	sql      string // of alias t
	isBinary bool   // the wire format it is read in
}

// Result is the column that is written, and how its values travel.
type Result struct {
	name   string
	OID    uint32 // of a value
	Binary bool   // its wire format
	List   uint32 // the type of the array that lists values
	cast   string // what brings an element of that to the values' type: "", or a cast where they are text
	Echoed bool   // what is stored is read back by the same statement and compared
	around string // a format of what is written, with the value for %s; "": the value itself

	made   string // what makes the value of a row of alias t, where none is sent
	beside string // what is set beside it, behind a comma
	along  string // a format of the same, with the value that is sent for %s
}

// Sends says that the values travel.
func (r Result) Sends() bool { return r.made == "" }

// assign is what a SET says of it; value is that of a parameter, where one is sent.
func (r Result) assign(value string) string {
	beside := r.beside
	if r.along != "" {
		beside += fmt.Sprintf(r.along, value)
	}
	if !r.Sends() {
		value = r.made
	} else {
		value = r.set(value)
	}
	return pg.Ident(r.name) + " = " + value + beside
}

// set is what is written, around the value's expression.
func (r Result) set(value string) string {
	if r.around == "" {
		return value
	}
	return fmt.Sprintf(r.around, value)
}

// sides are the two columns between which a column's values stand, by their names; the source's is "" if it is gone.
type sides struct{ source, target string }

// present is a column as it is read in SQL.
func present(name string) string { return "t." + pg.Ident(name) }

// uncovered is that of every kind whose target follows its source: the target is missing or left over. IS DISTINCT FROM
// NULL and not IS NULL: the latter is true of a composite value whose fields are all null.
func (s sides) uncovered() string {
	return fmt.Sprintf("(%s IS NULL) OPERATOR(pg_catalog.=) (%s IS DISTINCT FROM NULL)", present(s.target), present(s.source))
}

// evidence are source and target; a source that is gone is read as NULL.
func (s sides) evidence(sourceBinary, targetBinary bool) [2]operand {
	source := "NULL::pg_catalog.text"
	if s.source != "" {
		source = present(s.source)
	}
	return [2]operand{{source, sourceBinary}, {present(s.target), targetBinary}}
}
