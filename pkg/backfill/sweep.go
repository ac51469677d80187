package backfill

import (
	"context"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// passSQL is what the last pass of a job left behind.
const passSQL = `SELECT count(*) FILTER (WHERE state = 'pending'), coalesce(sum(skipped) FILTER (WHERE pass = $2), 0)::bigint
  FROM cipherfleet.ranges WHERE job_id = $1`

// nextPassSQL offers the whole key space again, and leaves that are new since. Not before $3: rows that somebody
// holds are not worth asking for at once.
const nextPassSQL = `INSERT INTO cipherfleet.ranges (job_id, relid, pass, after_key, through_key, lease_until)
SELECT job_id, relid, $2::int, after_key, through_key, clock_timestamp() + $3::interval FROM cipherfleet.ranges WHERE job_id = $1 AND pass = 0 AND state <> 'split'
UNION ALL
SELECT $1::uuid, leaf, $2::int, NULL, NULL, clock_timestamp() + $3::interval FROM unnest($4::oid[]) leaf
 WHERE leaf NOT IN (SELECT relid FROM cipherfleet.ranges WHERE job_id = $1 AND pass = 0)`

// Step takes a job whose ranges are all closed one step on: to the next sweep, to backfilled and done, or, if rows are
// in quarantine, to failed. A job with open ranges is left alone. A sweep that wrote every uncovered row it met proves
// the job: what is uncovered after it became so since it began. Leaves are the table's leaf partitions as of now.
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
		quarantined := 0
		if err := tx.QueryRow(ctx, quarantinedSQL, id).Scan(&quarantined); err != nil {
			return err
		}
		switch {
		case job.Pass == 0 || skipped > 0:
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

const mostSweepDelay = 30 * time.Second

func (s *Jobs) nextPass(ctx context.Context, tx pg.Tx, job *Job, leaves []uint32, held bool) error {
	delay := time.Duration(0)
	if held {
		delay = min(250*time.Millisecond<<min(job.Pass, 10), mostSweepDelay)
	}
	job.Pass, job.State = job.Pass+1, Sweeping
	if _, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET state = 'sweeping', pass = $2 WHERE id = $1`, job.ID, job.Pass); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, nextPassSQL, job.ID, job.Pass, delay, leaves)
	return err
}

// end closes the job. No checkpoint can follow: its ranges are closed, and locked until this is committed.
func (s *Jobs) end(ctx context.Context, tx pg.Tx, job *Job, t transition) error {
	job.State, job.StoppedBy = t.to, t.reason
	if _, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET state = $2, stopped_by = nullif($3, '') WHERE id = $1`, job.ID, t.to, t.reason); err != nil {
		return err
	}
	return s.record(ctx, tx, *job, t)
}
