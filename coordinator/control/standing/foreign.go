package standing

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// EncrypterIn is a column's encrypter in one job.
func EncrypterIn(job backfill.Job, id uint32) backfill.External {
	return SpecIn(job, id).External
}

// SpecIn is what one job does to a column; the zero one if nothing.
func SpecIn(job backfill.Job, id uint32) backfill.SpecColumn {
	for _, c := range job.Spec.Columns {
		if c.ID == id {
			return c
		}
	}
	return backfill.SpecColumn{}
}

// EncrypterOf is the encrypter of a column's newest job; none if it makes cells, or had no job.
func EncrypterOf(ctx context.Context, q pg.Querier, id uint32) (backfill.External, error) {
	c, err := SpecOf(ctx, q, id)
	return c.External, err
}

// SpecOf is what a column's newest job does to it; the zero one if it had none.
func SpecOf(ctx context.Context, q pg.Querier, id uint32) (backfill.SpecColumn, error) {
	job, err := backfill.Newest(ctx, q, id)
	if errors.Is(err, backfill.ErrNoJob) {
		return backfill.SpecColumn{}, nil
	}
	return SpecIn(job, id), err
}
