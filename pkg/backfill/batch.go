package backfill

import (
	"slices"

	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// row is one uncovered row as it was read.
type row struct {
	key    [][]byte // wire values
	xmin   [4]byte
	reason string // why it was refused; "": its value cannot be transformed
	fault  int    // one more than the place of the column that it was refused for; 0: for all of them

	suspect bool // it is covered, and its cells are to be compared
}

// id is the row's key as a map key; it stays in this process.
func (r row) id() string {
	var id []byte
	for _, part := range r.key {
		id = append(id, byte(len(part)>>24), byte(len(part)>>16), byte(len(part)>>8), byte(len(part)))
		id = append(id, part...)
	}
	return string(id)
}

// batch is what one read brought: the uncovered rows among those scanned, in key order. Its memory is used again for
// a later batch once the writer is through with it.
type batch struct {
	span
	trace   trace.Span
	scanned int
	bytes   int64
	arena   []byte
	parts   [][]byte
}

// span is a stretch of the key space whose uncovered rows are known: the writer's unit of work.
type span struct {
	after, last keyspace.Bound      // (after, last]
	rows        []row               // uncovered, in key order
	values      [][]transform.Value // per column, parallel to rows
	refused     []row               // rows whose value could not be transformed
	end         bool                // the last span of its range
	skipLocked  bool                // leave rows that somebody holds for later
}

func (b *batch) reset(columns int) {
	b.span = span{rows: b.rows[:0], values: b.values}
	if b.values == nil {
		b.values = make([][]transform.Value, columns)
	}
	for i := range b.values {
		b.values[i] = b.values[i][:0]
	}
	b.scanned, b.bytes, b.arena, b.parts = 0, 0, b.arena[:0], b.parts[:0]
}

// mostReserved is for how many rows there is room from the start, if so many are asked for. Few of them may come.
const mostReserved = 5000

// reserve makes room for so many rows at once: grown row by row, the room would be copied several times over.
func (b *batch) reserve(rows, keys int) {
	rows = min(rows, mostReserved)
	b.rows = slices.Grow(b.rows, rows)
	b.parts = slices.Grow(b.parts, rows*keys)
	for i := range b.values {
		b.values[i] = slices.Grow(b.values[i], rows)
	}
}

// keep copies wire bytes out of the connection's buffer; nil stays nil, and what is empty does not become nil.
func (b *batch) keep(wire []byte) []byte {
	switch {
	case wire == nil:
		return nil
	case len(wire) == 0:
		return []byte{}
	}
	start := len(b.arena)
	b.arena = append(b.arena, wire...)
	return b.arena[start:len(b.arena):len(b.arena)]
}

func (b *batch) keepKey(wire [][]byte) [][]byte {
	start := len(b.parts)
	for _, part := range wire {
		b.parts = append(b.parts, b.keep(part))
	}
	return b.parts[start:len(b.parts):len(b.parts)]
}

// halves cuts a span between two rows. Each half has at least one row.
func (s span) halves() (span, span) {
	mid := len(s.rows) / 2
	first, second := s, s
	first.rows, second.rows = s.rows[:mid], s.rows[mid:]
	first.values, second.values = make([][]transform.Value, len(s.values)), make([][]transform.Value, len(s.values))
	for i, column := range s.values {
		first.values[i], second.values[i] = column[:mid], column[mid:]
	}
	cut := keyspace.Bound{Parts: s.rows[mid-1].key}
	first.last, first.end, second.after = cut, false, cut
	return first, second
}

// subset is the span with only the rows at the positions given.
func (s span) subset(keep []int) span {
	if len(keep) == len(s.rows) {
		return s
	}
	part := s
	part.rows, part.values = nil, make([][]transform.Value, len(s.values))
	for _, i := range keep {
		part.rows = append(part.rows, s.rows[i])
		for c := range s.values {
			part.values[c] = append(part.values[c], s.values[c][i])
		}
	}
	return part
}

// unlike is the span without the rows that have their cells, and whose cells stay.
func (s span) unlike() span {
	if !slices.ContainsFunc(s.rows, func(r row) bool { return r.suspect }) {
		return s
	}
	keep := make([]int, 0, len(s.rows))
	for i := range s.rows {
		if !s.settled(i) {
			keep = append(keep, i)
		}
	}
	return s.subset(keep)
}

// settled says of a row that was sealed that nothing is to be written to it.
func (s span) settled(i int) bool {
	if !s.rows[i].suspect {
		return false
	}
	for _, values := range s.values {
		if v := values[i]; v.Is != nil && !v.Kept {
			return false
		}
	}
	return true
}
