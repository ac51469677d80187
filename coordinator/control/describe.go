package control

import (
	"context"
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// progressSQL: the rate is over the chunks of the last ten seconds, or since the job began at $5.
const progressSQL = `SELECT coalesce(sum(r.rows), 0)::bigint, coalesce(sum(r.skipped) FILTER (WHERE r.pass = $2), 0)::bigint, coalesce(sum(r.conflicts), 0)::bigint,
 count(*) FILTER (WHERE r.state = 'pending' AND r.pass = $2), count(*) FILTER (WHERE r.state = 'pending' AND r.owner IS NOT NULL AND r.lease_until > clock_timestamp()),
 count(*) FILTER (WHERE r.state = 'done' AND r.pass = $2), count(*) FILTER (WHERE r.state = 'split' AND r.pass = $2),
 count(DISTINCT r.worker) FILTER (WHERE r.state = 'pending' AND r.owner IS NOT NULL AND r.lease_until > clock_timestamp()),
 (SELECT count(*) FROM (SELECT DISTINCT relid, key FROM cipherfleet.quarantine q WHERE q.job_id = $1 AND q.resolved_at IS NULL) q),
 (SELECT coalesce(sum(e.rows_processed), 0)::float8 / greatest(0.5, least(10, extract(epoch FROM clock_timestamp() - $5)::float8)) FROM cipherfleet.events e
   WHERE e.table_name = $3 AND e.column_name = $4 AND e.event = 'backfill_checkpoint' AND e.job_id = $1
   AND e.id > (SELECT coalesce(max(id), 0) - 5000 FROM cipherfleet.events) AND e.created_at > clock_timestamp() - interval '10 seconds')
 FROM cipherfleet.ranges r WHERE r.job_id = $1`

// describe says how a job stands.
func (p *Plane) describe(ctx context.Context, j backfill.Job) (messages.Job, error) {
	return DescribeJob(ctx, p.DB, j)
}

// DescribeJob says how a job stands, from Postgres alone.
func DescribeJob(ctx context.Context, q pg.Querier, j backfill.Job) (messages.Job, error) {
	m := messages.Job{V: messages.Version, ID: j.ID, RequestID: j.RequestID, Table: pg.Table{Schema: j.Spec.Schema, Name: j.Spec.Table}.String(),
		State: string(j.State), Total: j.Total, StoppedBy: j.StoppedBy, CreatedAt: j.CreatedAt}
	for _, c := range j.Spec.Columns {
		m.Columns = append(m.Columns, c.Source)
	}
	if parts := strings.Split(j.TraceParent, "-"); len(parts) == 4 {
		m.TraceID = parts[1]
	}
	first := j.Spec.Columns[0]
	err := q.QueryRow(ctx, progressSQL, j.ID, j.Pass, first.LogTable, first.LogColumn, j.CreatedAt).Scan(&m.Rows, &m.Skipped, &m.Conflicts,
		&m.Ranges.Pending, &m.Ranges.Leased, &m.Ranges.Done, &m.Ranges.Split, &m.Workers, &m.Quarantined, &m.RowsPerSecond)
	if err != nil {
		return messages.Job{}, fmt.Errorf("describe job %s: %w", j.ID, err)
	}
	return m, nil
}
