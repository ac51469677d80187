package standing

import (
	"context"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// brieflySQL limits how long one statement may wait, all locks of all partitions together, to half of the time after which
// whoever waits for one of them looks for a deadlock, and would be its victim.
const brieflySQL = `SELECT pg_catalog.set_config('statement_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true),
 pg_catalog.set_config('lock_timeout', '0', true)`

const patientlySQL = `SELECT pg_catalog.set_config('statement_timeout', (1000 + extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 1000)::bigint::text, true),
 pg_catalog.set_config('lock_timeout', '0', true)`

// LockAlone keeps everybody out of a table and its partitions until the transaction of [Patiently] ends. It waits briefly:
// everybody queues behind it, and nobody is made a deadlock's victim by it.
func LockAlone(ctx context.Context, tx pg.Tx, t pg.Table) error {
	return Briefly(ctx, tx, AloneSQL(t))
}

// AloneSQL is the statement of [LockAlone].
func AloneSQL(t pg.Table) string { return "LOCK TABLE " + t.SQL() + " IN ACCESS EXCLUSIVE MODE" }

// LockShape keeps only those out who would alter the table, and nobody who reads or writes rows. So it waits longer than
// deadlock_timeout, after which Postgres lets an autovacuum give way to whoever waits.
func LockShape(ctx context.Context, tx pg.Tx, t pg.Table) error {
	return limited(ctx, tx, patientlySQL, ShapeSQL(t))
}

// ShapeSQL is the statement of [LockShape].
func ShapeSQL(t pg.Table) string {
	return "LOCK TABLE " + t.SQL() + " IN SHARE UPDATE EXCLUSIVE MODE"
}

// Briefly runs statements that lock a table and its partitions, each as [LockAlone] does.
func Briefly(ctx context.Context, tx pg.Tx, statements ...string) error {
	return limited(ctx, tx, brieflySQL, statements...)
}

func limited(ctx context.Context, tx pg.Tx, limitSQL string, statements ...string) error {
	if _, err := tx.Exec(ctx, limitSQL); err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, TimeoutsSQL)
	return err
}
