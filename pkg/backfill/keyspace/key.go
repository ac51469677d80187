package keyspace

import (
	"crypto/sha256"
	"encoding/hex"
)

// Key is one row's key: one element per key column, each in its type's output form under the pinned session.
// Nil is the open end of a range. Only Postgres orders keys.
type Key []string

// Hash is how a key is shown outside Postgres: the first 12 hex digits of SHA-256 over its length-prefixed elements.
func Hash(k Key) string {
	h := sha256.New()
	for _, part := range k {
		n := len(part)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
