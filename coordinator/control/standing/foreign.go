package standing

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// EncrypterIn is a column's encrypter in one job.
func EncrypterIn(job work.Job, id uint32) work.External {
	return SpecIn(job, id).External
}

// SpecIn is what one job does to a column; the zero one if nothing.
func SpecIn(job work.Job, id uint32) work.Column {
	for _, c := range job.Spec.Columns {
		if c.ID == id {
			return c
		}
	}
	return work.Column{}
}

// EncrypterOf is the encrypter of a column's newest job; none if it makes cells, or had no job.
func EncrypterOf(ctx context.Context, q pg.Querier, id uint32) (work.External, error) {
	c, err := SpecOf(ctx, q, id)
	return c.External, err
}

// SpecOf is what a column's newest job does to it; the zero one if it had none.
func SpecOf(ctx context.Context, q pg.Querier, id uint32) (work.Column, error) {
	job, err := work.Newest(ctx, q, id)
	if errors.Is(err, work.ErrNoJob) {
		return work.Column{}, nil
	}
	return SpecIn(job, id), err
}
