package backfill

import (
	"context"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// reasonRaised is of a row whose expression, or the condition that says whether it is done, raises an error.
const reasonRaised = "the expression raises an error: SQLSTATE "

// readJudged is [reader.read] where judging a row may raise an error: one that does is found by reading ever fewer rows,
// and is refused, so that the rest goes on without it.
func (r *reader) readJudged(ctx context.Context, b *batch, after, through keyspace.Bound, most int) error {
	for {
		err := r.read(ctx, b, after, through, most)
		if pg.ClassOf(err) != pg.ClassData || !r.shape.Fallible() {
			return err
		}
		if most > 1 {
			r.sparse, most = false, most/2 // what is looked for far away cannot be counted
			continue
		}
		return r.readBlind(ctx, b, after, through, reasonRaised+pg.Code(err))
	}
}

// readBlind reads the next row without judging it, and refuses it.
func (r *reader) readBlind(ctx context.Context, b *batch, after, through keyspace.Bound, reason string) error {
	blind := *r
	blind.shape, blind.sparse = r.shape.Blind(), false
	if err := blind.read(ctx, b, after, through, 1); err != nil {
		return err
	}
	for _, row := range b.rows {
		row.reason = reason
		b.refused = append(b.refused, row)
	}
	b.span = b.subset(nil)
	return nil
}
