package work

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// apartSQL takes the jobs that are done to pieces, a row for each column that is backfilled and that no later job went over;
// those of which every column is left, and stands where the job took it, stay whole, and are [Jobs.Idle]'s.
const apartSQL = `SELECT id::text, coalesce(request_id, ''), relid, jsonb_set(spec, '{columns}', jsonb_build_array(c)), state, pass, total, coalesce(stopped_by, ''), coalesce(trace_parent, ''), created_at
 FROM (SELECT jobs.*, c, count(*) FILTER (WHERE NOT EXISTS (SELECT FROM cipherfleet.columns r WHERE r.id = (c->>'id')::bigint
   AND (r.source_attnum <> (c->>'source_attnum')::int OR r.target_attnum <> (c->>'target_attnum')::int))) OVER (PARTITION BY jobs.id) AS stand
  FROM cipherfleet.jobs, jsonb_array_elements(jobs.spec->'columns') c
  WHERE jobs.state = 'done' AND NOT ` + besides + `
   AND NOT EXISTS (SELECT FROM cipherfleet.jobs o WHERE o.relid = jobs.relid AND o.state NOT IN ('done', 'failed', 'cancelled'))
   AND NOT EXISTS (SELECT FROM cipherfleet.jobs later WHERE later.relid = jobs.relid AND (later.created_at, later.id) > (jobs.created_at, jobs.id) AND NOT ` + besides + `
    AND later.spec->'columns' @> jsonb_build_array(jsonb_build_object('id', c->'id')))
   AND (SELECT e.phase FROM cipherfleet.events e WHERE e.table_name = c->>'log_table' AND e.column_name = c->>'log_column' ORDER BY e.id DESC LIMIT 1) = 'backfilled') parts
 WHERE stand < jsonb_array_length(spec->'columns') ORDER BY created_at, id, c->'id'`

// Apart reads, as jobs of one column each, those columns of jobs that are done which no sweep reaches: their job is not swept
// again, for a later one went over others of its columns, those were moved, or one has another plaintext since a decryption.
func (s *Jobs) Apart(ctx context.Context) ([]Job, error) {
	jobs, err := pg.Collect(ctx, s.DB, apartSQL, scanJob)
	if err != nil {
		return nil, fmt.Errorf("list columns that no job sweeps: %w", err)
	}
	return jobs, nil
}
