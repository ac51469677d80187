package backfill

import (
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Shape is what one leaf table looks like to the engine: enough to write every statement, and the fingerprint under
// which they are true.
type Shape struct {
	Space
	Columns     []Column
	Fingerprint string // what the fingerprint query answered when the shape was taken
	CheckSQL    string // the fingerprint query; its parameter is Leaf
	SkipUser    bool   // users' triggers do not fire on the fleet's writes

	watch ddl.Watch
	parts []ddl.Part // what the watch answered when the shape was taken
}

// Space is the key space of one leaf table.
type Space struct {
	Leaf  uint32 // oid
	Table pg.Table
	Key   []KeyColumn
	Keys  *cell.KeyEncoder // how the key enters a cell's address
}

// KeyColumn is one column of the key.
type KeyColumn struct {
	Name      string
	OID       uint32 // base type
	ArrayOID  uint32 // of the arrays that list keys
	Cast      string // what brings an element of them to the base type: "", or a cast where they are text
	Operators pg.Operators
	Binary    bool // wire format it is read and sent in
}

// operator is the key's own operator for op: of its index's operator class, qualified.
func (k KeyColumn) operator(op string) pg.Operator {
	switch op {
	case "<":
		return k.Operators.Less
	case "<=":
		return k.Operators.LessEqual
	case ">":
		return k.Operators.Greater
	case ">=":
		return k.Operators.GreaterEqual
	}
	return k.Operators.Equal
}

// Column is one column in work.
type Column struct {
	ID             uint32
	Source, Target string
	Reverse        bool     // read from its target, and written to its source
	External       External // who makes the target's values, if that is somebody else
	Expression     *ddl.Expression
	Beside         []string // columns that the source's values cannot be opened without
	Tenant         string   // column whose value chooses the key; "": one key for all rows

	kind
}

// Transform makes what carries the column's values from one form to the other, for one goroutine.
func (c Column) Transform(keyring *cell.Keyring) (transform.Transform, error) {
	return c.kind.transform(keyring)
}

// format is the protocol's format code of a key column.
func (k KeyColumn) format() int16 { return pg.Format(k.Binary) }
