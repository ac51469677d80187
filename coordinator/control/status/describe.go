package status

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// progressSQL: the rate is over the chunks of the last ten seconds, or since the job began.
const progressSQL = `SELECT job.place, p.* FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::timestamptz[])
 WITH ORDINALITY AS job (id, pass, log_table, log_column, begun, place) CROSS JOIN LATERAL (SELECT coalesce(sum(r.rows), 0)::bigint, coalesce(sum(r.skipped) FILTER (WHERE r.pass = job.pass), 0)::bigint, coalesce(sum(r.conflicts), 0)::bigint,
 count(*) FILTER (WHERE r.state = 'pending' AND r.pass = job.pass), count(*) FILTER (WHERE r.state = 'pending' AND r.owner IS NOT NULL AND r.lease_until > clock_timestamp()),
 count(*) FILTER (WHERE r.state = 'done' AND r.pass = job.pass), count(*) FILTER (WHERE r.state = 'split' AND r.pass = job.pass),
 count(DISTINCT r.worker) FILTER (WHERE r.state = 'pending' AND r.owner IS NOT NULL AND r.lease_until > clock_timestamp()),
 (SELECT count(*) FROM (SELECT DISTINCT relid, key FROM cipherfleet.quarantine q WHERE q.job_id = job.id AND q.resolved_at IS NULL) q),
 (SELECT coalesce(sum(e.rows_processed), 0)::float8 / greatest(0.5, least(10, extract(epoch FROM clock_timestamp() - job.begun)::float8)) FROM cipherfleet.events e
   WHERE e.table_name = job.log_table AND e.column_name = job.log_column AND e.event = 'backfill_checkpoint' AND e.job_id = job.id
   AND e.id > (SELECT coalesce(max(id), 0) - 5000 FROM cipherfleet.events) AND e.created_at > clock_timestamp() - interval '10 seconds'),
 array_agg(DISTINCT r.error_class) FILTER (WHERE r.state = 'pending' AND r.owner IS NULL AND r.error_class <> '')
 FROM cipherfleet.ranges r WHERE r.job_id = job.id) AS p`

// DescribeJob says how a job stands, from Postgres alone.
func DescribeJob(ctx context.Context, q pg.Querier, j work.Job) (messages.Job, error) {
	all, err := DescribeJobs(ctx, q, []work.Job{j})
	if err != nil {
		return messages.Job{}, fmt.Errorf("describe job %s: %w", j.ID, err)
	}
	return all[0], nil
}

// DescribeJobs says how jobs stand, in their order, with one statement.
func DescribeJobs(ctx context.Context, q pg.Querier, jobs []work.Job) ([]messages.Job, error) {
	ids, passes, begun := make([]string, len(jobs)), make([]int, len(jobs)), make([]time.Time, len(jobs))
	tables, columns := make([]string, len(jobs)), make([]string, len(jobs))
	for i, j := range jobs {
		first := j.Spec.Columns[0]
		ids[i], passes[i], begun[i], tables[i], columns[i] = j.ID, j.Pass, j.CreatedAt, first.LogTable, first.LogColumn
	}
	rows, err := q.Query(ctx, progressSQL, ids, passes, tables, columns, begun)
	if err != nil {
		return nil, err
	}
	described := make([]messages.Job, len(jobs))
	for i, j := range jobs {
		described[i] = named(j)
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (at int64, err error) {
		var m messages.Job
		err = row.Scan(&at, &m.Rows, &m.Skipped, &m.Conflicts, &m.Ranges.Pending, &m.Ranges.Leased, &m.Ranges.Done, &m.Ranges.Split,
			&m.Workers, &m.Quarantined, &m.RowsPerSecond, &m.HandedBack)
		if err == nil {
			d := &described[at-1]
			d.Rows, d.Skipped, d.Conflicts, d.Ranges = m.Rows, m.Skipped, m.Conflicts, m.Ranges
			d.Workers, d.Quarantined, d.RowsPerSecond, d.HandedBack = m.Workers, m.Quarantined, m.RowsPerSecond, m.HandedBack
		}
		return at, err
	})
	return described, pg.Safe(err)
}

// kindOf is what a job does; all its columns are of one kind.
func kindOf(j work.Job) string {
	switch c := j.Spec.Columns[0]; {
	case c.Rotate:
		return messages.KindRotate
	case c.Reverse:
		return messages.KindRollback
	case c.Index != nil:
		return messages.KindIndex
	}
	return messages.KindBackfill
}

// named is what the projection itself says of a job.
func named(j work.Job) messages.Job {
	m := messages.Job{V: messages.Version, ID: j.ID, RequestID: j.RequestID, Table: pg.Table{Schema: j.Spec.Schema, Name: j.Spec.Table}.String(),
		Kind: kindOf(j), State: string(j.State), Total: j.Total, StoppedBy: j.StoppedBy, CreatedAt: j.CreatedAt}
	for _, c := range j.Spec.Columns {
		if c.Rotate {
			m.Columns, m.Scheme = append(m.Columns, c.Target), int(c.Scheme)
			continue
		}
		m.Columns = append(m.Columns, c.Source)
	}
	if parts := strings.Split(j.TraceParent, "-"); len(parts) == 4 {
		m.TraceID = parts[1]
	}
	return m
}
