package keyspace

import "github.com/cipherfleet/cipherfleet/pkg/pg"

// Bound is one end of what is read or written: the wire values of a key, or its text from the ranges table.
// No parts: open.
type Bound struct {
	Parts  [][]byte
	AsText bool
}

// TextBound is the bound at a key as text; nil: open.
func TextBound(k Key) Bound {
	if k == nil {
		return Bound{}
	}
	b := Bound{AsText: true}
	for _, part := range k {
		b.Parts = append(b.Parts, []byte(part))
	}
	return b
}

// Clone is a bound that owns its memory.
func (b Bound) Clone() Bound {
	c := Bound{AsText: b.AsText}
	for _, part := range b.Parts {
		c.Parts = append(c.Parts, append([]byte{}, part...))
	}
	return c
}

// Open says that nothing is left out at this end.
func (b Bound) Open() bool { return b.Parts == nil }

// Bind appends the parameters of one bound.
func (s *Space) Bind(statement *pg.Statement, b Bound) {
	for i, part := range b.Parts {
		format := s.Key[i].Format()
		if b.AsText {
			format = 0
		}
		statement.Add(part, s.Key[i].OID, format)
	}
}
