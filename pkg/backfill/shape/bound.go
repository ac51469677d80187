package shape

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// bind finds the columns that cells of the job's columns, or of those whose cells they take, may be bound to.
func (s *Shape) bind(relation pg.Relation, job work.Job, keyring *cell.Keyring) (err error) {
	var ids []uint32
	for _, c := range job.Spec.Columns {
		if ids = append(ids, c.ID); c.Origin.Own() {
			ids = append(ids, c.Origin.Column)
		}
	}
	s.Bindings, err = bound.All(relation, keyring.Bindings(ids...))
	if err != nil {
		return fmt.Errorf("%w: %w", keyspace.ErrChanged, err)
	}
	return nil
}

// boundColumns are read of each row so that cells find what they are bound to: binding by binding.
func (s *Shape) boundColumns() (list []operand) {
	for _, b := range s.Bindings {
		for i, c := range b.Columns {
			list = append(list, operand{present(c.Name), b.Keys.Wire(i) == cell.Binary})
		}
	}
	return list
}

// Choosers is how many columns of a row choose keys.
func (s *Shape) Choosers() int { return len(s.choosers()) }

// Bound is how many columns of a row [Shape.AppendBound] takes.
func (s *Shape) Bound() (n int) {
	for _, b := range s.Bindings {
		n += len(b.Columns)
	}
	return n
}

// AppendBound encodes what a row's cells may be bound to beside its key, behind what is in the arena.
func (s *Shape) AppendBound(dst []cell.Bound, arena []byte, wire [][]byte) ([]cell.Bound, []byte, error) {
	for _, b := range s.Bindings {
		start := len(arena)
		grown, err := b.Keys.Append(arena, wire[:len(b.Columns)])
		if err != nil {
			return nil, arena, fmt.Errorf("encode what cells of %s are bound to: %w", s.Table, err)
		}
		arena, wire = grown, wire[len(b.Columns):]
		dst = append(dst, cell.Bound{Columns: b.Label, Key: arena[start:len(arena):len(arena)]})
	}
	return dst, arena, nil
}
