package shape

import "github.com/cipherfleet/cipherfleet/pkg/pg"

// The wire formats of what the statements return, in the order in which they list it.

// restFormats are those of the sources, of what chooses keys, of what cells are bound to, and of the cells that are compared.
func (s *Shape) restFormats() (list []int16) {
	for _, c := range s.Columns {
		list = append(list, pg.Format(c.input().isBinary))
	}
	list = append(list, make([]int16, len(s.choosers()))...) // as text
	for _, read := range s.boundColumns() {
		list = append(list, pg.Format(read.isBinary))
	}
	for _, stored := range s.stored() {
		list = append(list, pg.Format(stored.isBinary))
	}
	return list
}

// ReadFormats are those of [Shape.ReadSQL].
func (s *Shape) ReadFormats() []int16 {
	return append(append(s.KeyFormats(), 1, 1), s.restFormats()...)
}

// LockFormats are those of [Shape.LockSQL].
func (s *Shape) LockFormats() []int16 {
	return append(append([]int16{1}, s.KeyFormats()...), s.restFormats()...)
}

// EchoFormats are those of [Shape.echo].
func (s *Shape) EchoFormats() (list []int16) {
	for _, c := range s.Columns {
		if out := c.Output(); out.Echoed {
			list = append(list, pg.Format(out.Binary))
		}
	}
	return list
}

// PresentFormats are those of [Shape.PresentSQL]: sources are text.
func (s *Shape) PresentFormats() []int16 {
	return append([]int16{1, 1}, make([]int16, len(s.Columns))...)
}

// ProofFormats are those of [Shape.ProofSQL]: sources and targets are text.
func (s *Shape) ProofFormats() []int16 {
	return append(append(s.KeyFormats(), 1), make([]int16, 2*len(s.Columns))...)
}

// VerifyFormats are those of [Shape.VerifySQL] and [Shape.SampleRunSQL].
func (s *Shape) VerifyFormats() []int16 {
	list := s.KeyFormats()
	for _, c := range s.Columns {
		for _, read := range c.evidence() {
			list = append(list, pg.Format(read.isBinary))
		}
	}
	for _, read := range s.boundColumns() {
		list = append(list, pg.Format(read.isBinary))
	}
	return append(list, 1)
}
