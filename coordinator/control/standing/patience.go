package standing

import (
	"context"
	"errors"
	"time"

	"github.com/sethvargo/go-retry"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// TimeoutsSQL limits the present transaction: it waits for locks briefly, and takes its time with a large table.
const TimeoutsSQL = `SELECT pg_catalog.set_config('lock_timeout', '1s', true), pg_catalog.set_config('statement_timeout', '0', true)`

const (
	firstPause = 100 * time.Millisecond
	longest    = 30 * time.Second // of all attempts; a waiting ALTER holds up everybody behind it, so it waits briefly and often
)

// Backoff is how long and how often locks are waited for.
func Backoff() retry.Backoff { return retry.WithMaxDuration(longest, pauses()) }

func pauses() retry.Backoff {
	return retry.WithJitterPercent(30, retry.WithCappedDuration(2*time.Second, retry.NewExponential(firstPause)))
}

// Patiently runs f in a transaction that waits for locks only briefly, and again for as long as somebody holds them.
func Patiently(ctx context.Context, db *pg.DB, f func(pg.Tx) error) error {
	return retry.Do(ctx, Backoff(), func(ctx context.Context) error {
		err := db.InTx(ctx, func(tx pg.Tx) error {
			if _, err := tx.Exec(ctx, TimeoutsSQL); err != nil {
				return err
			}
			return f(tx)
		})
		if class := pg.ClassOf(err); class == pg.ClassLock || class == pg.ClassConflict {
			return retry.RetryableError(err)
		}
		return err
	})
}

// ErrMoved says that the column is not on the rung any more that a transition was planned for.
var ErrMoved = errors.New("the column moved meanwhile")

// Settled turns what a person can do something about into a refusal: the column moved, or the table stayed locked.
func Settled(s Standing, err error) error {
	switch {
	case errors.Is(err, ErrMoved):
		return Clash("column", "ask for the same again, if it is still wanted", "column %s of %s is not %s any more: somebody else moved it",
			s.Source, s.Relation.Table(), PhaseWord(s.State.Phase))
	case pg.ClassOf(err) == pg.ClassLock:
		return Refuse("table", "wait until the transactions that hold it have ended (pg_stat_activity shows them), and ask for the same again",
			"%s is locked by others: no lock was got in %v of short attempts", s.Relation.Table(), longest)
	}
	return err
}
