package control

import (
	"context"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// patience is how long a range may be in work before it is split for the sake of a worker that has nothing to do. A
// range of narrow rows takes less; what takes longer has wide rows, or a slow transform.
const patience = 5 * time.Second

// idleSQL says whether the job is all in work, some of it for long, while a slot of the fleet is free.
const idleSQL = `SELECT EXISTS (SELECT FROM cipherfleet.ranges WHERE job_id = $1 AND state = 'pending' AND lease_until > clock_timestamp()
   AND published_at < clock_timestamp() - $2::interval)
 AND NOT EXISTS (SELECT FROM cipherfleet.ranges WHERE job_id = $1 AND state = 'pending' AND (lease_until IS NULL OR lease_until <= clock_timestamp()))
 AND (SELECT coalesce(sum(slots), 0) FROM cipherfleet.workers WHERE expires_at > clock_timestamp())
   > (SELECT count(*) FROM cipherfleet.ranges WHERE state = 'pending' AND lease_until > clock_timestamp())`

// share splits a job's slowest range when a worker could help with it, and offers the halves.
func (p *Plane) share(ctx context.Context, job work.Job) error {
	if job.State != work.Running && job.State != work.Sweeping {
		return nil
	}
	idle := false
	if err := p.DB.QueryRow(ctx, idleSQL, job.ID, patience).Scan(&idle); err != nil || !idle {
		return err
	}
	relation, err := pg.Inspect(ctx, p.DB, job.Spec.Schema, job.Spec.Table)
	if err != nil {
		return fmt.Errorf("share job %s: %w", job.ID, err)
	}
	split, err := p.jobs().Split(ctx, job.ID, relation, patience)
	if err != nil || !split {
		return err
	}
	p.Log.InfoContext(ctx, "a slow range was split", "job", job.ID)
	return p.refill(ctx, job)
}
