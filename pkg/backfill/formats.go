package backfill

import "github.com/cipherfleet/cipherfleet/pkg/pg"

// The wire formats of what the statements return, in the order in which they list it.

// keyFormats are those of the key's columns.
func (s *Space) keyFormats() []int16 {
	list := make([]int16, len(s.Key))
	for i, k := range s.Key {
		list[i] = k.format()
	}
	return list
}

// restFormats are those of the sources, of what chooses keys, and of the cells that are compared.
func (s *Shape) restFormats() (list []int16) {
	for _, c := range s.Columns {
		list = append(list, pg.Format(c.input().isBinary))
	}
	list = append(list, make([]int16, len(s.choosers()))...) // as text
	for _, stored := range s.stored() {
		list = append(list, pg.Format(stored.isBinary))
	}
	return list
}

// readFormats are those of [Shape.readSQL].
func (s *Shape) readFormats() []int16 {
	return append(append(s.keyFormats(), 1, 1), s.restFormats()...)
}

// lockFormats are those of [Shape.lockSQL].
func (s *Shape) lockFormats() []int16 {
	return append(append([]int16{1}, s.keyFormats()...), s.restFormats()...)
}

// echoFormats are those of [Shape.echo].
func (s *Shape) echoFormats() (list []int16) {
	for _, c := range s.Columns {
		if out := c.output(); out.echoed {
			list = append(list, pg.Format(out.isBinary))
		}
	}
	return list
}

// presentFormats are those of [Shape.presentSQL]: sources are text.
func (s *Shape) presentFormats() []int16 {
	return append([]int16{1, 1}, make([]int16, len(s.Columns))...)
}

// proofFormats are those of [Shape.proofSQL]: sources and targets are text.
func (s *Shape) proofFormats() []int16 {
	return append(append(s.keyFormats(), 1), make([]int16, 2*len(s.Columns))...)
}

// verifyFormats are those of [Shape.verifySQL] and [Shape.sampleRunSQL].
func (s *Shape) verifyFormats() []int16 {
	list := s.keyFormats()
	for _, c := range s.Columns {
		for _, read := range c.evidence() {
			list = append(list, pg.Format(read.isBinary))
		}
	}
	return append(list, 1)
}
