package control

import (
	"context"
	"fmt"
	"time"
)

// leasesKept is how long a lease that has run out stays on record, for people who look for who was there. Nobody waits for
// one that has run out; a program that comes back takes it anew before it writes.
const leasesKept = time.Hour

// pruneSQL counts what it deletes. A row that somebody holds is left to the next look.
const pruneSQL = `WITH gone AS (DELETE FROM cipherfleet.workers WHERE id = ANY(ARRAY(SELECT id FROM cipherfleet.workers
  WHERE expires_at < clock_timestamp() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1)
SELECT count(*) FROM gone`

// prune takes the leases away that ran out long ago: every program that is killed leaves one.
func (p *Plane) prune(ctx context.Context) error {
	if err := p.inParts(ctx, pruneSQL, leasesKept, rollupRows); err != nil {
		return fmt.Errorf("prune leases: %w", err)
	}
	return nil
}
