package status

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// passed is how much of the first pass is behind a job: ranges done, ranges, rows written in the others, and in all.
type passed struct{ done, all, rows, written int64 }

const (
	quarantinedSQL = `SELECT w.column_id, count(*) FROM unnest($1::uuid[], $2::bigint[]) AS w (job_id, column_id)
 JOIN cipherfleet.quarantine q ON q.job_id = w.job_id AND q.column_id = w.column_id AND q.resolved_at IS NULL GROUP BY 1`
	passedSQL = `SELECT job_id::text, count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state <> 'split'),
 coalesce(sum(rows) FILTER (WHERE state = 'pending'), 0)::bigint, coalesce(sum(rows), 0)::bigint FROM cipherfleet.ranges WHERE job_id = ANY ($1::uuid[]) AND pass = 0 GROUP BY 1`
)

// readJobs reads the newest job over each column, and how it stands.
func (r *registry) readJobs(ctx context.Context, q pg.Querier) (err error) {
	var columns []uint32
	for _, c := range r.Columns {
		columns = append(columns, c.ID)
	}
	if r.Jobs, err = work.NewestOf(ctx, q, columns); err != nil {
		return err
	}
	var jobs []work.Job
	var ids, of []string
	var on []int64
	for column, j := range r.Jobs {
		if !slices.Contains(ids, j.ID) {
			jobs, ids = append(jobs, j), append(ids, j.ID)
		}
		of, on = append(of, j.ID), append(on, int64(column))
	}
	described, err := DescribeJobs(ctx, q, jobs)
	if err != nil {
		return fmt.Errorf("describe jobs: %w", err)
	}
	r.described = map[string]messages.Job{}
	for _, j := range described {
		r.described[j.ID] = j
	}
	if r.quarantined, err = pairs[uint32, int64](ctx, q, quarantinedSQL, of, on); err != nil {
		return fmt.Errorf("count rows in quarantine: %w", err)
	}
	return r.readPassed(ctx, q, ids)
}

func (r *registry) readPassed(ctx context.Context, q pg.Querier, jobs []string) error {
	r.passed = map[string]passed{}
	rows, err := q.Query(ctx, passedSQL, jobs)
	if err != nil {
		return fmt.Errorf("read how far jobs are: %w", err)
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (job string, err error) {
		var p passed
		err = row.Scan(&job, &p.done, &p.all, &p.rows, &p.written)
		r.passed[job] = p
		return job, err
	})
	if err != nil {
		return fmt.Errorf("read how far jobs are: %w", pg.Safe(err))
	}
	return nil
}

// Scheme is one scheme of a column.
type Scheme struct {
	Number, Suite, Padding int
	Binding, Nulls, Tenant string
	State                  lifecycle.SchemeState
	Columns                string // that it is bound to, as [cell.Scheme.Columns]; "": none
	keyed                  bool   // its data key is there
}

// A schema of before version 3 knows no tenants, one of before version 5 no bound columns.
const schemesSQL = `SELECT s.column_id, s.number, s.suite, s.padding, s.binding, s.nulls, s.state, coalesce(pg_catalog.to_jsonb(s)->>'tenant_column', ''),
 ` + lifecycle.BoundSQL + `,
 EXISTS (SELECT FROM cipherfleet.deks d WHERE d.column_id = s.column_id AND d.scheme = s.number AND d.wrapped IS NOT NULL)
 FROM cipherfleet.schemes s ORDER BY s.column_id, s.number`

func (r *registry) readSchemes(ctx context.Context, q pg.Querier) error {
	r.Schemes, r.AllSchemes = map[uint32]Scheme{}, map[uint32][]Scheme{}
	rows, err := q.Query(ctx, schemesSQL)
	if err != nil {
		return fmt.Errorf("read schemes: %w", err)
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (id uint32, err error) {
		var s Scheme
		err = row.Scan(&id, &s.Number, &s.Suite, &s.Padding, &s.Binding, &s.Nulls, &s.State, &s.Tenant, &s.Columns, &s.keyed)
		if r.AllSchemes[id] = append(r.AllSchemes[id], s); s.State == lifecycle.SchemeActive {
			r.Schemes[id] = s
		}
		return id, err
	})
	if err != nil {
		return fmt.Errorf("read schemes: %w", pg.Safe(err))
	}
	return nil
}

// SealsNulls says whether the scheme of a column seals NULL: the one that is written, else the newest that can be read.
func (r *registry) SealsNulls(id uint32) (seals, written bool) {
	is, written := r.Schemes[id]
	for _, s := range r.AllSchemes[id] {
		if _, active := r.Schemes[id]; !active && s.State == lifecycle.SchemeReadable {
			is, written = s, true
		}
	}
	return is.Nulls == cell.SealNulls.String(), written
}

// missedWrites are the writes to one column that did not write its target.
type missedWrites struct {
	total  *int64 // since capture was first installed; nil: not to be read
	recent int64  // in the last missedWindow
	by     []standing.MissedBy
	named  bool // recent and by could be read
}

const missedWindow = 10 * time.Minute

// A sequence that may not be read would be an error, and that the end of the transaction.
const (
	missedTotalSQL = `SELECT w.id, CASE WHEN has_sequence_privilege(s.id::oid, 'SELECT') THEN coalesce(pg_sequence_last_value(s.id), 0) END
 FROM unnest($1::bigint[], $2::text[]) AS w (id, name) CROSS JOIN LATERAL to_regclass(w.name) AS s (id) WHERE s.id IS NOT NULL`
	missedRecentSQL = `SELECT m.column_id, m.application, m.role, sum(m.writes)::bigint, max(m.at), coalesce(sum(m.writes) FILTER (WHERE m.at > clock_timestamp() - $1::interval), 0)::bigint
 FROM unnest($2::bigint[], $3::timestamptz[]) AS w (id, since) JOIN cipherfleet.missed_writes m ON m.column_id = w.id AND m.at > coalesce(w.since, clock_timestamp() - interval '1 day')
 GROUP BY 1, 2, 3 ORDER BY 1, 5 DESC, 2, 3`
)

// since is from when on a write counts that missed a column's cell: in the last day, or after a cutover, where nothing
// but a verification that found no cell wrong makes up for it. It is in the order of the columns.
func (r *registry) since() []*time.Time {
	list := make([]*time.Time, len(r.Columns))
	for i, c := range r.Columns {
		if r.States[c.ID].State.Phase != lifecycle.PhaseCutOver {
			continue
		}
		since := r.cut[c.ID]
		if f := r.found[c.ID]; f.Sound() && f.Began.After(since) {
			since = f.Began
		}
		list[i] = &since
	}
	return list
}

func (r *registry) readMissed(ctx context.Context, q pg.Querier) error {
	r.missed = map[uint32]missedWrites{}
	ids, sequences := []int64{}, []string{}
	for _, c := range r.Columns {
		ids, sequences = append(ids, int64(c.ID)), append(sequences, ddl.MissedSequence(c.ID))
	}
	totals, err := pairs[uint32, *int64](ctx, q, missedTotalSQL, ids, sequences)
	if err != nil {
		return fmt.Errorf("count missed writes: %w", err)
	}
	may := false
	if err := q.QueryRow(ctx, standing.MayReadMissedSQL).Scan(&may); err != nil {
		return fmt.Errorf("look for missed writes: %w", err)
	}
	for id, total := range totals {
		r.missed[id] = missedWrites{total: total, named: may, by: []standing.MissedBy{}}
	}
	if !may {
		return nil
	}
	_, err = pg.Collect(ctx, q, missedRecentSQL, func(row pgx.CollectableRow) (id uint32, err error) {
		var by standing.MissedBy
		var recent int64
		err = row.Scan(&id, &by.Application, &by.Role, &by.Writes, &by.Last, &recent)
		m := r.missed[id]
		m.named = true
		m.recent, m.by = m.recent+recent, append(m.by, by)
		r.missed[id] = m
		return id, err
	}, missedWindow, ids, r.since())
	if err != nil {
		return fmt.Errorf("look for missed writes: %w", err)
	}
	return nil
}
