package control

import (
	"context"
	"errors"
	"time"

	"github.com/sethvargo/go-retry"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const (
	ddlTimeouts   = `SELECT pg_catalog.set_config('lock_timeout', '1s', true), pg_catalog.set_config('statement_timeout', '0', true)` // a large table takes long to validate
	ddlFirstPause = 100 * time.Millisecond
	ddlLongest    = 30 * time.Second // of all attempts; a waiting ALTER holds up everybody behind it, so it waits briefly and often
)

// backoff is how long and how often locks are waited for.
func backoff() retry.Backoff {
	return retry.WithMaxDuration(ddlLongest, retry.WithJitterPercent(30, retry.WithCappedDuration(2*time.Second, retry.NewExponential(ddlFirstPause))))
}

// patiently runs f in a transaction that waits for locks only briefly, and again for as long as somebody holds them.
func patiently(ctx context.Context, db *pg.DB, f func(pg.Tx) error) error {
	return retry.Do(ctx, backoff(), func(ctx context.Context) error {
		err := db.InTx(ctx, func(tx pg.Tx) error {
			if _, err := tx.Exec(ctx, ddlTimeouts); err != nil {
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

// errMoved says that the column is not on the rung any more that a transition was planned for.
var errMoved = errors.New("the column moved meanwhile")

// settled turns what a person can do something about into a refusal: the column moved, or the table stayed locked.
func settled(s Standing, err error) error {
	switch {
	case errors.Is(err, errMoved):
		return clash("column", "ask for the same again, if it is still wanted", "column %s of %s is not %s any more: somebody else moved it",
			s.Source, s.Relation.Table(), phaseWord(s.State.Phase))
	case pg.ClassOf(err) == pg.ClassLock:
		return refuse("table", "wait until the transactions that hold it have ended (pg_stat_activity shows them), and ask for the same again",
			"%s is locked by others: no lock was got in %v of short attempts", s.Relation.Table(), ddlLongest)
	}
	return err
}
