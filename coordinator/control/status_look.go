package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// look is one look at one column.
type look struct {
	db      *pg.DB
	request StatusRequest
	table   registeredTable
	column  lifecycle.Column
	status  ColumnStatus

	relation       pg.Relation
	source, target pg.Column // Attnum 0: gone
	job            backfill.Job
	quarantined    int64
	live           int64    // rows, as the server counts them as they come and go
	found          *finding // of the last verification that still counts
}

func (l *look) run(ctx context.Context) error {
	l.status = ColumnStatus{ID: l.column.ID, Table: l.table.name.String(), Column: l.column.Source, Target: l.column.Target,
		Schemes: []SchemeRows{}, Indexes: []IndexStatus{}, Flags: []string{}}
	err := reading(ctx, l.db, "30s", func(tx pg.Tx) error {
		for _, part := range []func(context.Context, pg.Querier) error{l.inspect, l.history, l.lastJob, l.missed, l.flags} {
			if err := part(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.wanted()
	return l.cover(ctx)
}

// inspect finds the table and the columns under today's names.
func (l *look) inspect(ctx context.Context, q pg.Querier) (err error) {
	if l.table.gone {
		return nil
	}
	if l.relation, err = pg.Inspect(ctx, q, l.table.name.Schema, l.table.name.Name); err != nil {
		return err
	}
	leaves := make([]uint32, len(l.relation.Leaves))
	for i, leaf := range l.relation.Leaves {
		leaves[i] = leaf.OID
	}
	if err := q.QueryRow(ctx, `SELECT coalesce(sum(pg_stat_get_live_tuples(leaf)), 0)::bigint FROM unnest($1::oid[]) leaf`, leaves).Scan(&l.live); err != nil {
		return fmt.Errorf("read the server's count of rows: %w", err)
	}
	l.source, l.target = byNumber(l.relation, l.column.SourceNum), byNumber(l.relation, l.column.TargetNum)
	if l.source.Attnum != 0 {
		l.status.Column = l.source.Name
	}
	if l.target.Attnum != 0 {
		l.status.Target = l.target.Name
	}
	return nil
}

// byNumber is the column with this number, or the zero one if it is gone.
func byNumber(r pg.Relation, attnum int16) pg.Column {
	at := slices.IndexFunc(r.Columns, func(c pg.Column) bool { return c.Attnum == attnum })
	if at < 0 {
		return pg.Column{}
	}
	return r.Columns[at]
}

// lastFindingSQL is the last verification of a column.
const lastFindingSQL = `SELECT created_at, details FROM cipherfleet.events
 WHERE table_name = $1 AND column_name = $2 AND event = 'verified' ORDER BY id DESC LIMIT 1`

func (l *look) history(ctx context.Context, q pg.Querier) error {
	state, err := lifecycle.Latest(ctx, q, l.column.Table.String(), l.column.Source)
	if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
		return err
	}
	l.status.Phase = state.Phase
	var at time.Time
	var details []byte
	err = q.QueryRow(ctx, lastFindingSQL, l.column.Table.String(), l.column.Source).Scan(&at, &details)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the last verification: %w", err)
	}
	var found finding
	if err := json.Unmarshal(details, &found); err != nil {
		return fmt.Errorf("read the last verification: %w", err)
	}
	found.at = at
	l.found = &found
	if !state.Verified.IsZero() {
		l.status.Verified = &Verified{At: at, Proven: found.Proven}
	}
	return nil
}

const columnQuarantinedSQL = `SELECT count(*) FROM cipherfleet.quarantine WHERE job_id = $1 AND column_id = $2 AND resolved_at IS NULL`

func (l *look) lastJob(ctx context.Context, q pg.Querier) (err error) {
	l.job, err = backfill.Newest(ctx, q, l.column.ID)
	if errors.Is(err, backfill.ErrNoJob) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := q.QueryRow(ctx, columnQuarantinedSQL, l.job.ID, l.column.ID).Scan(&l.quarantined); err != nil {
		return fmt.Errorf("count rows in quarantine: %w", err)
	}
	j, err := DescribeJob(ctx, q, l.job)
	if err != nil {
		return err
	}
	s := &JobStatus{ID: j.ID, State: j.State, Rows: j.Rows, RowsPerSecond: j.RowsPerSecond, Ranges: j.Ranges, Workers: j.Workers,
		StoppedBy: orNull(j.StoppedBy), TraceID: orNull(j.TraceID)}
	if left := max(0, j.Total-j.Rows); l.job.State == backfill.Running && j.RowsPerSecond > 0 {
		seconds := int64(float64(left) / j.RowsPerSecond)
		s.ETASeconds = &seconds
	}
	l.status.Job = s
	return nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// mayReadMissedSQL asks before, since a refusal would end the transaction.
const mayReadMissedSQL = `SELECT coalesce(has_sequence_privilege(to_regclass($1)::oid, 'SELECT'), false),
 (SELECT min(created_at) FROM cipherfleet.events WHERE table_name = $2 AND column_name = $3 AND event = 'dual_writing')`

// missed counts the writes that capture caught, and how many a minute: since the last verification, else since it was
// installed.
func (l *look) missed(ctx context.Context, q pg.Querier) error {
	may, since := false, (*time.Time)(nil)
	err := q.QueryRow(ctx, mayReadMissedSQL, ddl.MissedSequence(l.column.ID), l.column.Table.String(), l.column.Source).Scan(&may, &since)
	if err != nil {
		return fmt.Errorf("count missed writes: %w", err)
	}
	if !may {
		return nil
	}
	var now time.Time
	total, before := int64(0), int64(0)
	if err := q.QueryRow(ctx, ddl.Missed(l.column.ID)).Scan(&total); err != nil {
		return fmt.Errorf("count missed writes: %w", err)
	}
	if err := q.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	l.status.Missed = &total
	if l.found != nil && l.found.Missed <= total {
		since, before = &l.found.at, l.found.Missed
	}
	if since != nil && now.After(*since) {
		rate := float64(total-before) / max(now.Sub(*since).Minutes(), 1)
		l.status.PerMinute = &rate
	}
	return nil
}

// wanted puts in what the manifest says of the column.
func (l *look) wanted() {
	for _, t := range l.request.Manifest.Tables {
		if t.Schema != l.table.name.Schema || t.Name != l.table.name.Name {
			continue
		}
		at := slices.IndexFunc(t.Columns, func(c manifest.Column) bool { return c.Source == l.status.Column })
		if at < 0 {
			continue
		}
		l.status.Reach = &t.Columns[at].Reach
		for _, x := range t.Columns[at].Indexes {
			_, present := l.relation.Column(x.Name)
			l.status.Indexes = append(l.status.Indexes, IndexStatus{Name: x.Name, Wanted: true, Present: present})
		}
	}
}
