package work

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// passSQL is what the last pass of a job left behind.
const passSQL = `SELECT count(*) FILTER (WHERE state = 'pending'), coalesce(sum(skipped) FILTER (WHERE pass = $2), 0)::bigint
  FROM cipherfleet.ranges WHERE job_id = $1`

// holesSQL finds the leaves whose key space the ranges of a pass do not cover from end to end: leaves that are new, and
// those of which ranges were thrown away.
const holesSQL = `WITH r AS MATERIALIZED (SELECT relid, after_key, through_key FROM cipherfleet.ranges WHERE job_id = $1 AND pass = $2 AND state <> 'split')
SELECT leaf FROM unnest($3::oid[]) leaf WHERE leaf NOT IN (SELECT relid FROM r WHERE after_key IS NULL)
 OR leaf IN (SELECT a.relid FROM r a LEFT JOIN r b ON b.relid = a.relid AND b.after_key = a.through_key WHERE a.through_key IS NOT NULL AND b.relid IS NULL)`

func holes(ctx context.Context, tx pg.Tx, job string, pass int, leaves []uint32) ([]uint32, error) {
	rows, err := tx.Query(ctx, holesSQL, job, pass, leaves)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	return list, pg.Safe(err)
}

// nextPassSQL offers the whole key space of the leaves $4 again, those of $5 in one piece. Not before $3: rows that
// somebody holds are not worth asking for at once.
const nextPassSQL = `INSERT INTO cipherfleet.ranges (job_id, relid, pass, after_key, through_key, lease_until)
SELECT job_id, relid, $2::int, after_key, through_key, clock_timestamp() + $3::interval FROM cipherfleet.ranges
 WHERE job_id = $1 AND pass = 0 AND state <> 'split' AND relid = ANY($4::oid[]) AND relid <> ALL($5::oid[])
UNION ALL
SELECT $1::uuid, leaf, $2::int, NULL, NULL, clock_timestamp() + $3::interval FROM unnest($5::oid[]) leaf`

// Step takes a job whose ranges are all closed one step on: to the next sweep, to backfilled and done, or, if rows are
// in quarantine, to failed. A job with open ranges is left alone. A sweep that wrote every uncovered row it met proves
// the job: what is uncovered after it became so since it began. Leaves are the table's leaf partitions as of now; one
// that the last sweep did not walk from end to end is swept again.
func (s *Jobs) Step(ctx context.Context, id string, leaves []uint32) (Job, error) {
	var job Job
	err := s.change(ctx, func(tx pg.Tx) (err error) {
		if job, err = jobBy(ctx, tx, "WHERE id::text = $1 FOR UPDATE", id); err != nil || job.State != Running && job.State != Sweeping {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT FROM cipherfleet.ranges WHERE job_id = $1 FOR UPDATE`, id); err != nil {
			return err
		}
		var pending, skipped int64
		if err := tx.QueryRow(ctx, passSQL, id, job.Pass).Scan(&pending, &skipped); err != nil || pending > 0 {
			return err
		}
		missed, err := holes(ctx, tx, id, job.Pass, leaves)
		if err != nil {
			return err
		}
		quarantined := 0
		if err := tx.QueryRow(ctx, quarantinedSQL, id).Scan(&quarantined); err != nil {
			return err
		}
		if skipped == 0 && len(missed) == 0 && quarantined == 0 {
			if err := hasCompared(ctx, tx, &job); err != nil {
				return err
			}
		}
		switch {
		case job.Pass == 0 || skipped > 0 || len(missed) > 0:
			return s.nextPass(ctx, tx, &job, leaves, skipped > 0)
		case quarantined > 0:
			return s.end(ctx, tx, &job, transition{to: Failed, kind: lifecycle.KindError,
				reason: fmt.Sprintf("%d rows are in quarantine", quarantined)})
		}
		return s.end(ctx, tx, &job, transition{to: Done, kind: lifecycle.KindBackfilled})
	})
	if err != nil {
		return Job{}, fmt.Errorf("take job %s a step on: %w", id, err)
	}
	return job, nil
}

// hasCompared notes that the last pass met every row: what it did not compare has no cell, or one of later. A pass that
// left rows aside is followed by another that compares, or else those would pass for covered.
func hasCompared(ctx context.Context, tx pg.Tx, job *Job) error {
	if job.Spec.Compared || !slices.ContainsFunc(job.Spec.Columns, func(c Column) bool { return c.Compare }) {
		return nil
	}
	return setCompared(ctx, tx, job, true)
}

func setCompared(ctx context.Context, tx pg.Tx, job *Job, is bool) error {
	job.Spec.Compared = is
	_, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET spec = jsonb_set(spec, '{compared}', to_jsonb($2::boolean)) WHERE id = $1`, job.ID, is)
	if err != nil {
		return fmt.Errorf("note whether cells were compared: %w", err)
	}
	return nil
}

const mostSweepDelay = 30 * time.Second

func (s *Jobs) nextPass(ctx context.Context, tx pg.Tx, job *Job, leaves []uint32, held bool) error {
	delay := time.Duration(0)
	if held {
		delay = min(250*time.Millisecond<<min(job.Pass, 10), mostSweepDelay)
	}
	whole, err := holes(ctx, tx, job.ID, 0, leaves)
	if err != nil {
		return err
	}
	job.Pass, job.State = job.Pass+1, Sweeping
	if _, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET state = 'sweeping', pass = $2 WHERE id = $1`, job.ID, job.Pass); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, paroleSQL, job.ID); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, nextPassSQL, job.ID, job.Pass, delay, leaves, whole)
	return err
}

// paroleSQL lets every row out of quarantine that a sweep will try again: one that still resists comes back.
const paroleSQL = `UPDATE cipherfleet.quarantine SET resolved_at = clock_timestamp() WHERE job_id = $1 AND resolved_at IS NULL`

// end closes the job. No checkpoint can follow: its ranges are closed, and locked until this is committed.
func (s *Jobs) end(ctx context.Context, tx pg.Tx, job *Job, t transition) error {
	job.State, job.StoppedBy = t.to, t.reason
	if _, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET state = $2, stopped_by = nullif($3, '') WHERE id = $1`, job.ID, t.to, t.reason); err != nil {
		return err
	}
	return s.record(ctx, tx, *job, t)
}
