package proof

import (
	"hash/maphash"
	"math/bits"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Nonces is what a verification found about the nonces of one column's cells.
type Nonces struct {
	Cells    int64 `json:"cells"`    // that open and have one
	Distinct int64 `json:"distinct"` // exact, or an estimate
	Exact    bool  `json:"exact"`    // every nonce was compared with every other; else a share of them, picked by their own bits
	Repeated int64 `json:"repeated"` // cells whose nonce another cell under the same key has: that key is broken
}

const mostNonces = 1 << 18 // kept of one column at once: about 16 MiB

// nonces finds repetitions in constant memory. It keeps the nonces whose hash begins with level zero bits; when they are
// too many, it raises the level and drops what is below. Equal nonces have equal hashes, so among those that are kept
// every repetition is found: all of them while the level is 0, and later one in 2^level, so that a generator that
// repeats itself often is found at any size.
type nonces struct {
	seed     maphash.Seed
	level    int
	seen     map[cell.Nonce]uint64 // and a hash of the cell: one that is read twice, or was copied, repeats nothing
	cells    int64
	repeated int64
}

// noted is a nonce on its way into the count.
type noted struct {
	nonce cell.Nonce
	cell  uint64
}

func newNonces() *nonces {
	return &nonces{seed: maphash.MakeSeed(), seen: map[cell.Nonce]uint64{}}
}

// of is the note about a cell; false if it has no nonce.
func (n *nonces) of(c []byte) (noted, bool) {
	nonce, ok := cell.NonceOf(c)
	if !ok {
		return noted{}, false
	}
	return noted{nonce, maphash.Bytes(n.seed, c)}, true
}

func (n *nonces) add(x noted, most int) {
	n.cells++
	if !n.keeps(x.nonce) {
		return
	}
	if before, seen := n.seen[x.nonce]; seen {
		if before != x.cell {
			n.repeated++
		}
		return
	}
	n.seen[x.nonce] = x.cell
	for len(n.seen) > most {
		n.level++
		for nonce := range n.seen {
			if !n.keeps(nonce) {
				delete(n.seen, nonce)
			}
		}
	}
}

func (n *nonces) keeps(nonce cell.Nonce) bool {
	return bits.LeadingZeros64(maphash.Bytes(n.seed, nonce[:])) >= n.level
}

func (n *nonces) result() Nonces {
	distinct := int64(len(n.seen)) << n.level
	if n.level > 0 && n.repeated == 0 {
		distinct = min(distinct, n.cells)
	}
	return Nonces{Cells: n.cells, Distinct: distinct, Exact: n.level == 0, Repeated: n.repeated}
}
