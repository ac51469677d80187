package work

import "github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"

// Range is the part (After, Through] of one leaf table's key space, as far as Cursor has come.
type Range struct {
	ID             int64
	Job            string
	Leaf           uint32       // oid of the leaf table
	Pass           int          // 0 is the first pass, then one per sweep
	After, Through keyspace.Key // nil: open
	Cursor         keyspace.Key // everything up to here is done; nil: nothing yet
}

// Start is where reading goes on.
func (r Range) Start() keyspace.Key {
	if r.Cursor != nil {
		return r.Cursor
	}
	return r.After
}
