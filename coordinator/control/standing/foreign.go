package standing

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// EncrypterIn is a column's encrypter in one job.
func EncrypterIn(job backfill.Job, id uint32) backfill.External {
	for _, c := range job.Spec.Columns {
		if c.ID == id {
			return c.External
		}
	}
	return backfill.External{}
}

// EncrypterOf is the encrypter of a column's newest job; none if it makes cells, or had no job.
func EncrypterOf(ctx context.Context, q pg.Querier, id uint32) (backfill.External, error) {
	job, err := backfill.Newest(ctx, q, id)
	if errors.Is(err, backfill.ErrNoJob) {
		return backfill.External{}, nil
	}
	if err != nil {
		return backfill.External{}, err
	}
	return EncrypterIn(job, id), nil
}
