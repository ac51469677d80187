package work

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const idleSQL = `WHERE state = 'done' AND NOT ` + besides + ` AND NOT EXISTS (SELECT FROM cipherfleet.jobs o
  WHERE o.relid = jobs.relid AND o.state NOT IN ('done', 'failed', 'cancelled'))
 AND NOT EXISTS (SELECT FROM cipherfleet.jobs later WHERE later.relid = jobs.relid AND (later.created_at, later.id) > (jobs.created_at, jobs.id) AND NOT ` + besides + `
  AND EXISTS (SELECT FROM jsonb_array_elements(later.spec->'columns') c WHERE jobs.spec->'columns' @> jsonb_build_array(jsonb_build_object('id', c->'id'))))
 ORDER BY created_at, id`

// besides is true of a job that made no cells of plaintext: one that opens them, after which a rollback looks, one that
// seals them anew, or one over a blind index.
const besides = `(spec->'columns' @> '[{"reverse": true}]' OR spec->'columns' @> '[{"rotate": true}]' OR ` + fillsIndex + `)`

// Idle reads the jobs forward that are done, over tables where no job is at work, the oldest first; of a column, only the
// last job that went over it, whatever became of that.
func (s *Jobs) Idle(ctx context.Context) ([]Job, error) {
	rows, err := s.DB.Query(ctx, jobSQL+idleSQL)
	if err != nil {
		return nil, fmt.Errorf("list jobs that are done: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, scanJob)
	if err != nil {
		return nil, fmt.Errorf("list jobs that are done: %w", pg.Safe(err))
	}
	return jobs, nil
}

// emptySQL forgets the ranges of earlier sweeps that found nothing to do, so that sweeping for months keeps few of them.
const emptySQL = `DELETE FROM cipherfleet.ranges WHERE job_id = $1 AND pass BETWEEN 1 AND $2 AND rows = 0 AND skipped = 0 AND conflicts = 0`

// awaitMoves waits for whoever moves a column, which keeps jobs away, and keeps others from it: a phase that is read
// afterwards holds until the transaction ends.
func awaitMoves(ctx context.Context, tx pg.Tx) error {
	if _, err := tx.Exec(ctx, `LOCK TABLE cipherfleet.jobs IN ROW EXCLUSIVE MODE`); err != nil {
		return fmt.Errorf("wait for columns that are being moved: %w", err)
	}
	return nil
}

// CatchUp lets a job that is done sweep its table once more, because rows have become uncovered since. Leaves as in
// [Jobs.Step]; those of indexed have an index of their uncovered rows, and are swept in one piece. The errors of a job
// that cannot are ErrState, ErrBusy, ErrSuperseded and ErrNotReady; then nothing changed.
func (s *Jobs) CatchUp(ctx context.Context, id string, leaves, indexed []uint32) (Job, error) {
	var job Job
	err := s.change(ctx, func(tx pg.Tx) (err error) {
		if err := awaitMoves(ctx, tx); err != nil {
			return err
		}
		if job, err = sweepable(ctx, tx, id); err != nil {
			return err
		}
		if err := s.caughtUp(ctx, tx, job); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, emptySQL, id, job.Pass); err != nil {
			return err
		}
		whole, err := holes(ctx, tx, id, 0, leaves)
		if err != nil {
			return err
		}
		for _, leaf := range indexed {
			if !slices.Contains(whole, leaf) {
				whole = append(whole, leaf)
			}
		}
		job.Pass, job.State = job.Pass+1, Sweeping
		job.Spec.Unasked = true
		if _, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET state = 'sweeping', pass = $2, spec = jsonb_set(spec, '{unasked}', 'true') WHERE id = $1`, id, job.Pass); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, nextPassSQL, id, job.Pass, time.Duration(0), leaves, whole)
		return err
	})
	if pg.Code(err) == "23505" {
		err = ErrBusy
	}
	if err != nil {
		return Job{}, fmt.Errorf("sweep again after job %s: %w", id, err)
	}
	return job, nil
}

// newestForward is the last job over column $1 that sealed plaintext: jobs in reverse or of rotations since leave it in
// charge.
const newestForward = `WHERE spec->'columns' @> jsonb_build_array(jsonb_build_object('id', $1::bigint)) AND NOT ` + besides + ` ORDER BY created_at DESC, id LIMIT 1`

// elsewhereSQL says that a column does not stand where a job took it: a decryption gave it another plaintext.
const elsewhereSQL = `SELECT EXISTS (SELECT FROM cipherfleet.columns WHERE id = $1 AND (source_attnum <> $2 OR target_attnum <> $3))`

// sweepable locks a job that is done, the last over each of its columns, all of which are backfilled.
func sweepable(ctx context.Context, tx pg.Tx, id string) (Job, error) {
	job, err := jobBy(ctx, tx, "WHERE id::text = $1 FOR UPDATE", id)
	if err != nil {
		return job, err
	}
	if job.State != Done {
		return job, &StateError{job.State}
	}
	for _, c := range job.Spec.Columns {
		newest, err := jobBy(ctx, tx, newestForward, c.ID)
		if err != nil && !errors.Is(err, ErrNoJob) {
			return job, err
		}
		if newest.ID != job.ID && c.stays() == "" {
			return job, ErrSuperseded
		}
		state, err := lifecycle.Latest(ctx, tx, c.LogTable, c.LogColumn)
		if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
			return job, err
		}
		var elsewhere bool
		if err := tx.QueryRow(ctx, elsewhereSQL, c.ID, c.SourceAttnum, c.TargetAttnum).Scan(&elsewhere); err != nil {
			return job, err
		}
		if elsewhere || c.stays() != "" || state.Phase != lifecycle.PhaseBackfilled {
			return job, fmt.Errorf("%s of %s: %w", c.LogColumn, c.LogTable, ErrNotReady)
		}
	}
	return job, nil
}

func (s *Jobs) caughtUp(ctx context.Context, tx pg.Tx, job Job) error {
	events, err := starts(job, lifecycle.RunStart{Reason: "rows became uncovered since; they are swept"})
	if err != nil {
		return err
	}
	for _, event := range events {
		event.TraceID = TraceID(ctx)
		if _, err := s.Log.Append(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}
