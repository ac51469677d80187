package backfill

import "time"

// TimeoutsFor keeps a chunk's statements below the time after which Postgres looks for a deadlock's victim, so that the
// application never is it.
func TimeoutsFor(deadlock time.Duration) Timeouts {
	return Timeouts{Lock: min(time.Second, deadlock/2), Statement: min(10*time.Second, deadlock*8/10)}
}
