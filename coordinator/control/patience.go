package control

import (
	"context"
	"time"

	"github.com/sethvargo/go-retry"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const (
	ddlTimeouts   = `SELECT pg_catalog.set_config('lock_timeout', '1s', true), pg_catalog.set_config('statement_timeout', '0', true)` // a large table takes long to validate
	ddlFirstPause = 100 * time.Millisecond
	ddlLongest    = 30 * time.Second // of all attempts; a waiting ALTER holds up everybody behind it, so it waits briefly and often
)

// patiently runs f in a transaction that waits for locks only briefly, and again for as long as somebody holds them.
func patiently(ctx context.Context, db *pg.DB, f func(pg.Tx) error) error {
	backoff := retry.WithMaxDuration(ddlLongest, retry.WithJitterPercent(30, retry.WithCappedDuration(2*time.Second, retry.NewExponential(ddlFirstPause))))
	return retry.Do(ctx, backoff, func(ctx context.Context) error {
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
