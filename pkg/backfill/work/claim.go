package work

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// ErrLost says that a range is no longer this claim's: its epoch or owner moved on, or its job does not run.
// What was not committed is undone; somebody else goes on.
var ErrLost = errors.New("the range is no longer ours")

// Standing is what a range looks like to somebody who wants it.
type Standing int

// The standings of a range.
const (
	Claimed Standing = iota // it is ours
	Leased                  // somebody else's lease still runs
	Halted                  // its job is paused, or not running yet
	Closed                  // done, split, cancelled or unknown: nothing is left to do
)

// Claim is a range that is ours: no other claim can commit a chunk of it while Epoch and Owner stand in its row.
type Claim struct {
	Range
	Epoch    int64
	Owner    uuid.UUID
	Attempts int
}

// Ranges is the fleet's work list in Postgres.
type Ranges struct {
	DB     *pg.DB
	Worker string        // who claims
	Lease  time.Duration // how long a claim lasts without a chunk or a renewal
}

// claimSQL fences: whoever claimed before can no longer commit.
const claimSQL = `UPDATE cipherfleet.ranges r
   SET epoch = r.epoch + 1, attempts = r.attempts + 1, owner = $2, worker = $4, lease_until = clock_timestamp() + $3
  FROM cipherfleet.jobs j
 WHERE r.id = $1 AND j.id = r.job_id AND j.state IN ('running', 'sweeping', 'watching') AND r.state = 'pending'
   AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp())
RETURNING r.id, r.job_id::text, r.relid, r.pass, r.after_key, r.through_key, r.cursor_key, r.epoch, r.owner, r.attempts`

// Claim takes a range, committed synchronously, or says why not; for Leased also for how long still.
func (r *Ranges) Claim(ctx context.Context, id int64) (claim Claim, standing Standing, wait time.Duration, err error) {
	err = r.DB.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, pg.Durable); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, claimSQL, id, uuid.New(), r.Lease, r.Worker).Scan(&claim.ID, &claim.Job, &claim.Leaf, &claim.Pass,
			&claim.After, &claim.Through, &claim.Cursor, &claim.Epoch, &claim.Owner, &claim.Attempts)
		if errors.Is(err, pgx.ErrNoRows) {
			standing, wait, err = standingOf(ctx, tx, id)
		}
		return err
	})
	if err != nil {
		return Claim{}, Closed, 0, fmt.Errorf("claim range %d: %w", id, err)
	}
	return claim, standing, wait, nil
}

const standingSQL = `SELECT r.state, j.state, coalesce(greatest(r.lease_until - clock_timestamp(), interval '0'), interval '0')
  FROM cipherfleet.ranges r JOIN cipherfleet.jobs j ON j.id = r.job_id WHERE r.id = $1`

func standingOf(ctx context.Context, q pg.Querier, id int64) (Standing, time.Duration, error) {
	var state, job string
	var wait time.Duration
	err := q.QueryRow(ctx, standingSQL, id).Scan(&state, &job, &wait)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Closed, 0, nil
	case err != nil:
		return Closed, 0, err
	case state != "pending" || job == "done" || job == "failed" || job == "cancelled":
		return Closed, 0, nil
	case job == "paused" || job == "planning":
		return Halted, 0, nil
	}
	return Leased, wait, nil
}

const renewSQL = `UPDATE cipherfleet.ranges r SET lease_until = clock_timestamp() + $4
 WHERE r.id = $1 AND r.epoch = $2 AND r.owner = $3 AND r.state = 'pending'`

// Renew keeps the lease of a slow chunk. ErrLost says that the claim is over.
func (r *Ranges) Renew(ctx context.Context, c Claim) error {
	affected, err := r.exec(ctx, renewSQL, c.ID, c.Epoch, c.Owner, r.Lease)
	if err == nil && affected == 0 {
		err = ErrLost
	}
	if err != nil {
		return fmt.Errorf("renew range %d: %w", c.ID, err)
	}
	return nil
}

// exec runs one statement at READ COMMITTED: it may have to wait for a chunk of the range, and must not fail for that
// where the database's default is stricter.
func (r *Ranges) exec(ctx context.Context, sql string, args ...any) (affected int64, err error) {
	err = r.DB.InTx(ctx, func(tx pg.Tx) error {
		tag, err := tx.Exec(ctx, sql, args...)
		affected = tag.RowsAffected()
		return err
	})
	return affected, err
}

const releaseSQL = `UPDATE cipherfleet.ranges SET lease_until = NULL, owner = NULL, error_class = $4
 WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'pending'`

// Release gives a range back before its lease ends, so that the next worker need not wait. Class names what stopped
// this one, or is empty. A range that is no longer ours is left alone.
func (r *Ranges) Release(ctx context.Context, c Claim, class string) error {
	if _, err := r.exec(ctx, releaseSQL, c.ID, c.Epoch, c.Owner, class); err != nil {
		return fmt.Errorf("release range %d: %w", c.ID, err)
	}
	return nil
}

// Unpublish notes that a range's message was taken off the queue without work, so that the coordinator offers it again
// when its job runs.
func (r *Ranges) Unpublish(ctx context.Context, id int64) error {
	if _, err := r.exec(ctx, `UPDATE cipherfleet.ranges SET published_at = NULL WHERE id = $1 AND state = 'pending'`, id); err != nil {
		return fmt.Errorf("unpublish range %d: %w", id, err)
	}
	return nil
}

// Channel is notified when a range is closed, so that the coordinator need not wait for its next look.
const Channel = "cipherfleet"
