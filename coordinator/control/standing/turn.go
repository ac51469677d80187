package standing

import (
	"context"
	"errors"
	"fmt"

	"github.com/sethvargo/go-retry"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// indexSpace is the first number of the advisory locks under which a column's indexes are built; the second is the
// column's id.
const indexSpace = 0x63706978

var errTurn = errors.New("somebody else builds an index of the column")

// IndexTurn waits until nobody else builds or drops an index of the column: two who do stand in each other's way. The
// turn lasts as long as the connection. A [*Refusal] if somebody else takes long.
func IndexTurn(ctx context.Context, conn *pg.Conn, column uint32) error {
	err := retry.Do(ctx, Backoff(), func(ctx context.Context) error {
		won := false
		err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_lock($1, $2)`, indexSpace, int32(column)).Scan(&won) // waiting inside a statement would hold up who builds
		if err == nil && !won {
			return retry.RetryableError(errTurn)
		}
		return err
	})
	switch {
	case errors.Is(err, errTurn):
		return Refuse("table", "wait for its end (pg_stat_progress_create_index shows how far it is), and ask for the same again", "an index of this column is being built by somebody else")
	case err != nil:
		return fmt.Errorf("wait for others that build an index: %w", err)
	}
	return nil
}

// UnlimitedSQL takes the limits away that role or database have for each statement of a session that builds or drops
// indexes: its context says how long that may take.
const UnlimitedSQL = `SELECT pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('lock_timeout', '0', false)`

const mostDeadlocks = 10 // that are no end of a build; it may have taken hours to each

// Undeadlocked runs f, which builds or drops an index beside others and can be done again, until Postgres no longer breaks
// a deadlock by ending it, or has done so too often: who builds waits for every transaction that has the table, and one of
// them may ask for what only one at a time may have.
func Undeadlocked(ctx context.Context, f func() error) error {
	return retry.Do(ctx, retry.WithMaxRetries(mostDeadlocks, pauses()), func(context.Context) error {
		err := f()
		if pg.ClassOf(err) == pg.ClassConflict {
			return retry.RetryableError(err)
		}
		return err
	})
}
