package proof

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// nonceOf makes the n-th nonce, and a cell that has it.
func nonceOf(n, of uint64) noted {
	var x cell.Nonce
	binary.BigEndian.PutUint64(x[4:], n)
	return noted{x, of}
}

func TestNoncesAreComparedExactlyWhileTheyFit(t *testing.T) {
	t.Parallel()
	n := newNonces()
	for i := range uint64(1000) {
		n.add(nonceOf(i, i), 1000)
	}
	n.add(nonceOf(7, 7), 1000) // the same cell, read again
	if got := n.result(); got != (Nonces{Cells: 1001, Distinct: 1000, Exact: true}) {
		t.Errorf("without a repetition: %+v", got)
	}
	n.add(nonceOf(7, 1007), 1000)
	if got := n.result(); got.Repeated != 1 || !got.Exact {
		t.Errorf("with one: %+v", got)
	}
}

func TestManyNoncesTakeNoMoreRoomAndRepetitionsShow(t *testing.T) {
	t.Parallel()
	const most, cells = 1000, 200_000
	n := newNonces()
	for i := range uint64(cells) {
		n.add(nonceOf(i, i), most)
		if len(n.seen) > most {
			t.Fatalf("%d nonces are kept", len(n.seen))
		}
	}
	got := n.result()
	if got.Exact || got.Repeated != 0 || got.Distinct < cells*3/4 || got.Distinct > cells {
		t.Errorf("of %d different ones: %+v", cells, got)
	}
	for range 50_000 { // a generator that repeats itself
		i := rand.Uint64N(cells)
		n.add(nonceOf(i, i+cells), most)
	}
	if got := n.result(); got.Repeated == 0 {
		t.Errorf("repetitions were not seen: %+v", got)
	}
}

func TestARepeatedNonceIsNoProof(t *testing.T) {
	t.Parallel()
	if r := (Report{Rows: 2, Covered: 2, Nonces: Nonces{Cells: 2, Distinct: 1, Exact: true, Repeated: 1}}); r.Proven() {
		t.Error("a nonce that was used twice proves the column")
	}
}
