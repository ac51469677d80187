package work

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const newestSQL = `SELECT DISTINCT ON (c.id) c.id, j.id::text, coalesce(j.request_id, ''), j.relid, j.spec, j.state, j.pass, j.total,
 coalesce(j.stopped_by, ''), coalesce(j.trace_parent, ''), j.created_at
 FROM cipherfleet.jobs j CROSS JOIN LATERAL (SELECT (e->>'id')::bigint FROM jsonb_array_elements(j.spec->'columns') e) AS c (id)
 WHERE c.id = ANY ($1::bigint[]) AND NOT j.` + fillsIndex + ` ORDER BY c.id, j.created_at DESC, j.id`

// NewestOf is [Newest] of many columns in one statement, by their ids; one without a job is missing.
func NewestOf(ctx context.Context, q pg.Querier, columns []uint32) (map[uint32]Job, error) {
	ids := make([]int64, len(columns))
	for i, id := range columns {
		ids[i] = int64(id)
	}
	rows, err := q.Query(ctx, newestSQL, ids)
	if err != nil {
		return nil, fmt.Errorf("read the newest jobs: %w", err)
	}
	newest := make(map[uint32]Job, len(columns))
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (id uint32, err error) {
		job, err := scanJob(jobOf{row, &id})
		newest[id] = job
		return id, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the newest jobs: %w", pg.Safe(err))
	}
	return newest, nil
}

// jobOf is a job behind the id of a column.
type jobOf struct {
	pgx.CollectableRow
	column *uint32
}

// Scan takes the id first.
func (j jobOf) Scan(into ...any) error {
	return j.CollectableRow.Scan(append([]any{j.column}, into...)...)
}
