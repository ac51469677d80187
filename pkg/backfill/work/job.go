package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Job is one pass of transforms over one table, as the projection holds it.
type Job struct {
	ID, RequestID string
	Relation      uint32 // oid of the table
	Spec          Spec
	State         State
	Pass          int
	Total         int64
	StoppedBy     string
	TraceParent   string
	CreatedAt     time.Time
}

// Events are the beginnings of its events, one per column: table, column and job; and the phase of a column that the run
// leaves where it stands.
func (j Job) Events() []lifecycle.Event {
	list := make([]lifecycle.Event, len(j.Spec.Columns))
	for i, c := range j.Spec.Columns {
		list[i] = lifecycle.Event{Table: c.LogTable, Column: c.LogColumn, Job: j.ID, Phase: c.stays()}
	}
	return list
}

// Passing says that the job is at work because the fleet began it by itself: rows were left without a cell or a token, and
// get theirs. That is a moment's work, as a rule. One that is paused ends nothing by itself.
func (j Job) Passing() bool { return j.Spec.Unasked && !j.State.Ended() && j.State != Paused }

// Under is the job with the schemes that its columns are to be sealed under now: a job that goes on, or sweeps again, when
// its column has another scheme writes that one. Rotations keep the one they were asked for.
func (j Job) Under(active map[uint32]cell.Scheme) Job {
	j.Spec.Columns = slices.Clone(j.Spec.Columns)
	for i, c := range j.Spec.Columns {
		if scheme, has := active[c.ID]; has && !c.Rotate && c.Index == nil {
			j.Spec.Columns[i].Scheme = scheme.Number
		}
	}
	return j
}

// choosing is the job with the columns that choose keys: tenant names the one of a scheme, or says "".
func (j Job) choosing(tenant func(column uint32, scheme uint16) string) Job {
	j.Spec.Columns = slices.Clone(j.Spec.Columns)
	for i, c := range j.Spec.Columns {
		if c.Reverse && c.Origin.Own() {
			j.Spec.Columns[i].Tenant = tenant(c.Origin.Column, c.Origin.Scheme)
		}
		if !c.Foreign() && !c.Made() && !c.Reverse && c.Index == nil {
			j.Spec.Columns[i].Tenant = tenant(c.ID, c.Scheme)
		}
	}
	return j
}

// ComparingStill is a column of the job as the next pass takes it: what a pass has compared already is not compared again.
func (j Job) ComparingStill(c Column) Column {
	c.Compare = c.Compare && !j.Spec.Compared
	return c
}

// ErrNoJob says that there is no such job.
var ErrNoJob = errors.New("there is no such job")

// ErrBusy says that another job over the same table has not ended.
var ErrBusy = errors.New("another job over the same table has not ended")

// ErrState says that the job is not in a state in which this can be done.
var ErrState = errors.New("the job's state does not allow it")

// StateError is an [ErrState] that says which state that is.
type StateError struct{ State State }

// Error names the state.
func (e *StateError) Error() string {
	return fmt.Sprintf("the job is %s, which does not allow it", e.State)
}

// Unwrap is ErrState.
func (e *StateError) Unwrap() error { return ErrState }

// Jobs is the projection of jobs. It is changed only in the transaction that appends the event of the change.
type Jobs struct {
	DB  *pg.DB
	Log *lifecycle.Log
	// Fence runs first in every transaction that changes a job: the coordinator proves there that it still leads.
	// Nil for workers.
	Fence func(ctx context.Context, tx pg.Tx) error
}

const jobSQL = `SELECT id::text, coalesce(request_id, ''), relid, spec, state, pass, total, coalesce(stopped_by, ''), coalesce(trace_parent, ''), created_at FROM cipherfleet.jobs `

func scanJob(row pgx.CollectableRow) (j Job, err error) {
	err = row.Scan(&j.ID, &j.RequestID, &j.Relation, &j.Spec, &j.State, &j.Pass, &j.Total, &j.StoppedBy, &j.TraceParent, &j.CreatedAt)
	return j, err
}

func jobBy(ctx context.Context, q pg.Querier, condition string, arg any) (Job, error) {
	rows, err := q.Query(ctx, jobSQL+condition, arg)
	if err != nil {
		return Job{}, fmt.Errorf("read a job: %w", err)
	}
	job, err := pgx.CollectExactlyOneRow(rows, scanJob)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Job{}, ErrNoJob
	case err != nil:
		return Job{}, fmt.Errorf("read a job: %w", pg.Safe(err))
	}
	return job, nil
}

// Load reads a job by its id; [ErrNoJob] if there is none.
func (s *Jobs) Load(ctx context.Context, id string) (Job, error) {
	return jobBy(ctx, s.DB, "WHERE id::pg_catalog.text OPERATOR(pg_catalog.=) $1", id)
}

// ByRequest reads the job that a request made; [ErrNoJob] if there is none.
func (s *Jobs) ByRequest(ctx context.Context, request string) (Job, error) {
	return jobBy(ctx, s.DB, "WHERE request_id OPERATOR(pg_catalog.=) $1", request)
}

// Live reads the job over a table that has not ended; [ErrNoJob] if there is none.
func (s *Jobs) Live(ctx context.Context, relation uint32) (Job, error) {
	return LiveOver(ctx, s.DB, relation)
}

// LiveOver is the same inside a transaction.
func LiveOver(ctx context.Context, q pg.Querier, relation uint32) (Job, error) {
	return jobBy(ctx, q, "WHERE relid = $1 AND state NOT IN ('done', 'failed', 'cancelled')", relation)
}

// Newest reads the last job over a column, by the column's id, whatever became of it; [ErrNoJob] if there was none. Jobs
// over its blind indexes are none.
func Newest(ctx context.Context, q pg.Querier, column uint32) (Job, error) {
	return jobBy(ctx, q, `WHERE spec->'columns' @> jsonb_build_array(jsonb_build_object('id', $1::bigint)) AND NOT `+fillsIndex+` ORDER BY created_at DESC, id LIMIT 1`, column)
}

// fillsIndex is true of a job over a blind index.
const fillsIndex = `spec->'columns' @> '[{"index": {}}]'`

// NewestOver reads the last job over a blind index, by the index's id; [ErrNoJob] if there was none.
func NewestOver(ctx context.Context, q pg.Querier, index uint32) (Job, error) {
	return jobBy(ctx, q, `WHERE spec->'columns' @> jsonb_build_array(jsonb_build_object('index', jsonb_build_object('id', $1::bigint))) ORDER BY created_at DESC, id LIMIT 1`, index)
}

// List reads the newest jobs first, at most limit.
func (s *Jobs) List(ctx context.Context, limit int) ([]Job, error) {
	rows, err := s.DB.Query(ctx, jobSQL+"ORDER BY created_at DESC, id LIMIT $1", limit)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, scanJob)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", pg.Safe(err))
	}
	return jobs, nil
}

// Unfinished reads the jobs that have not ended, the oldest first.
func (s *Jobs) Unfinished(ctx context.Context) ([]Job, error) {
	rows, err := s.DB.Query(ctx, jobSQL+"WHERE state NOT IN ('done', 'failed', 'cancelled') ORDER BY created_at, id")
	if err != nil {
		return nil, fmt.Errorf("list unfinished jobs: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, scanJob)
	if err != nil {
		return nil, fmt.Errorf("list unfinished jobs: %w", pg.Safe(err))
	}
	return jobs, nil
}

const createJobSQL = `INSERT INTO cipherfleet.jobs (request_id, relid, spec, state, total, trace_parent) VALUES ($1, $2, $3, 'planning', $4, nullif($5, ''))
ON CONFLICT (request_id) DO NOTHING RETURNING id::text, created_at`

// Create adds a job in state planning; the same request id gives the same job again. [ErrBusy] if the table has a
// job that has not ended. The job's backfill_started is written when its ranges are ([Planner.Plan]).
func (s *Jobs) Create(ctx context.Context, j Job) (Job, error) {
	spec, err := json.Marshal(j.Spec)
	if err != nil {
		return Job{}, fmt.Errorf("write the job's spec: %w", err)
	}
	j.State = Planning
	err = s.change(ctx, func(tx pg.Tx) error {
		return tx.QueryRow(ctx, createJobSQL, j.RequestID, j.Relation, spec, j.Total, j.TraceParent).Scan(&j.ID, &j.CreatedAt)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s.ByRequest(ctx, j.RequestID)
	case pg.Code(err) == "23505":
		return Job{}, ErrBusy
	case err != nil:
		return Job{}, fmt.Errorf("create a job: %w", err)
	}
	return j, nil
}

// change runs f in a transaction that the fence opens and that commits synchronously.
func (s *Jobs) change(ctx context.Context, f func(pg.Tx) error) error {
	return s.DB.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, pg.Durable); err != nil {
			return err
		}
		if s.Fence != nil {
			if err := s.Fence(ctx, tx); err != nil {
				return err
			}
		}
		return f(tx)
	})
}
