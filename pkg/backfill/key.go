package backfill

import (
	"crypto/sha256"
	"encoding/hex"
)

// Key is one row's key: one element per key column, each in its type's output form under the pinned session.
// Nil is the open end of a range. Only Postgres orders keys.
type Key []string

// Range is the part (After, Through] of one leaf table's key space, as far as Cursor has come.
type Range struct {
	ID             int64
	Job            string
	Leaf           uint32 // oid of the leaf table
	Pass           int    // 0 is the first pass, then one per sweep
	After, Through Key    // nil: open
	Cursor         Key    // everything up to here is done; nil: nothing yet
}

// start is where reading goes on.
func (r Range) start() Key {
	if r.Cursor != nil {
		return r.Cursor
	}
	return r.After
}

// KeyHash is how a key is shown outside Postgres: the first 12 hex digits of SHA-256 over its length-prefixed elements.
func KeyHash(k Key) string {
	h := sha256.New()
	for _, part := range k {
		n := len(part)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
