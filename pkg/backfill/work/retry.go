package work

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Why a job's quarantine cannot be tried again.
var (
	// ErrNothingQuarantined says that no row of the job is in quarantine.
	ErrNothingQuarantined = errors.New("no row of the job is in quarantine")
	// ErrSuperseded says that a later job went over a column of this one: what is left is in that job's quarantine.
	ErrSuperseded = errors.New("a later job went over the same column")
	// ErrNotReady says that a column was moved since: the job's cells would not be guarded any more.
	ErrNotReady = errors.New("a column of the job is not ready to be written")
)

// Retry lets a job that ended with rows in quarantine go on: they are let out, and the table is swept from end to end,
// so that the job ends done, and proven, if all of them can be written now. Leaves as in [Jobs.Step]. The errors of a
// job that cannot are ErrState, ErrBusy, ErrNothingQuarantined, ErrSuperseded and ErrNotReady; then nothing changed.
func (s *Jobs) Retry(ctx context.Context, id, actor string, leaves []uint32) (Job, error) {
	var job Job
	err := s.change(ctx, func(tx pg.Tx) (err error) {
		if err := awaitMoves(ctx, tx); err != nil {
			return err
		}
		waiting := 0
		if job, waiting, err = retriable(ctx, tx, id); err != nil {
			return err
		}
		if job.Spec.Compared { // what was quarantined, or went past capture since, is compared too
			if err := setCompared(ctx, tx, &job, false); err != nil {
				return err
			}
		}
		if err := s.restarted(ctx, tx, job, actor, waiting); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, bumpSQL, id); err != nil {
			return err
		}
		job.StoppedBy, job.Spec.Unasked = "", false
		if _, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET state = 'running', stopped_by = NULL, spec = spec - 'unasked' WHERE id = $1`, id); err != nil {
			return err
		}
		if job.Pass == 0 { // it is swept after its first pass
			job.State = Running
			_, err := tx.Exec(ctx, paroleSQL, id)
			return err
		}
		return s.nextPass(ctx, tx, &job, leaves, false)
	})
	if pg.Code(err) == "23505" {
		err = ErrBusy
	}
	if err != nil {
		return Job{}, fmt.Errorf("try the quarantine of job %s again: %w", id, err)
	}
	return job, nil
}

// Retriable is what [Jobs.Retry] would do: how many rows it would try again, or why it would not. Another job over the
// table is not looked for.
func (s *Jobs) Retriable(ctx context.Context, id string) (rows int, err error) {
	err = s.DB.InTx(ctx, func(tx pg.Tx) error {
		_, rows, err = retriable(ctx, tx, id)
		return err
	})
	return rows, err
}

// retriable locks a job that may be tried again, and counts its rows in quarantine.
func retriable(ctx context.Context, tx pg.Tx, id string) (job Job, rows int, err error) {
	if job, err = jobBy(ctx, tx, "WHERE id::text = $1 FOR UPDATE", id); err != nil {
		return job, 0, err
	}
	if job.State != Failed && job.State != Cancelled {
		return job, 0, &StateError{job.State}
	}
	if err := tx.QueryRow(ctx, quarantinedSQL, id).Scan(&rows); err != nil {
		return job, 0, fmt.Errorf("count rows in quarantine: %w", err)
	}
	if rows == 0 {
		return job, 0, ErrNothingQuarantined
	}
	for _, c := range job.Spec.Columns {
		newest, err := Newest(ctx, tx, c.ID)
		if err != nil {
			return job, 0, err
		}
		if newest.ID != job.ID {
			return job, 0, ErrSuperseded
		}
	}
	return job, rows, ready(ctx, tx, job)
}

// ready says whether the log of every column lets the job's run go on.
func ready(ctx context.Context, tx pg.Tx, job Job) error {
	events, err := starts(job, lifecycle.RunStart{})
	if err != nil {
		return err
	}
	for _, event := range events {
		state, err := lifecycle.Latest(ctx, tx, event.Table, event.Column)
		if err != nil {
			return err
		}
		event.ID = state.Last + 1
		if _, err := state.Apply(event); err != nil {
			return fmt.Errorf("%s of %s: %w", event.Column, event.Table, ErrNotReady)
		}
	}
	return nil
}

// starts are the events of a job that starts, or starts again. They say of which columns each cell is opened and
// compared before it is written: all but those whose cells somebody else makes; and of which, those that are there, too.
func starts(job Job, start lifecycle.RunStart) ([]lifecycle.Event, error) {
	events := job.Events()
	for i, c := range job.Spec.Columns {
		start.Compared = c.Sealed() && c.stays() == ""
		start.Existing = c.Compare && !job.Spec.Compared
		detail, err := json.Marshal(start)
		if err != nil {
			return nil, err
		}
		events[i].Kind, events[i].Phase, events[i].Total, events[i].Detail = lifecycle.KindBackfillStarted, cmp.Or(events[i].Phase, lifecycle.PhaseBackfilling), job.Total, detail
	}
	return events, nil
}

func (s *Jobs) restarted(ctx context.Context, tx pg.Tx, job Job, actor string, rows int) error {
	events, err := starts(job, lifecycle.RunStart{Reason: fmt.Sprintf("%d rows in quarantine are tried again", rows), Quarantined: rows})
	if err != nil {
		return err
	}
	for _, event := range events {
		event.Actor, event.TraceID = actor, TraceID(ctx)
		if _, err := s.Log.Append(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}

// ReasonBeside is why a column of a row is in quarantine for which nothing is known against it: another one's value cannot
// be transformed.
const ReasonBeside = "its row waits for another column"

const quarantinedSQL = `SELECT pg_catalog.count(*) FROM (SELECT DISTINCT relid, key FROM cipherfleet.quarantine WHERE job_id OPERATOR(pg_catalog.=) $1 AND resolved_at IS NULL) q`
