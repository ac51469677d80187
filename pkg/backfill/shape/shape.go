package shape

import (
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Shape is what one leaf table looks like to the engine: enough to write every statement, and the fingerprint under
// which they are true.
type Shape struct {
	keyspace.Space
	Columns     []Column
	Fingerprint string // what the fingerprint query answered when the shape was taken
	CheckSQL    string // the fingerprint query; its parameter is Leaf
	SkipUser    bool   // users' triggers do not fire on the fleet's writes

	Bindings []bound.Binding // what cells are bound to beside the key, by all schemes that may be met

	watch ddl.Watch
	parts []ddl.Part // what the watch answered when the shape was taken
}

// Column is one column in work.
type Column struct {
	ID             uint32
	Source, Target string
	Reverse        bool          // read from its target, and written to its source
	External       work.External // who makes the target's values, if that is somebody else
	Expression     *ddl.Expression
	Where          *ddl.Condition
	Beside         []string // columns that the source's values cannot be opened without
	Tenant         string   // column whose value chooses the key; "": one key for all rows
	Listed         bool     // an index holds the uncovered rows, and they are few

	kind
}

// Transform makes what carries the column's values from one form to the other, for one goroutine.
func (c Column) Transform(keyring *cell.Keyring) (transform.Transform, error) {
	return c.kind.transform(keyring)
}
