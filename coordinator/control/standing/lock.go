package standing

import (
	"context"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const patientlySQL = `SELECT pg_catalog.set_config('statement_timeout', (1000 + extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 1000)::bigint::text, true),
 pg_catalog.set_config('lock_timeout', '0', true)`

// LockAlone keeps everybody out of a table and its partitions until the transaction of [Patiently] ends. It waits briefly:
// everybody queues behind it, and nobody is made a deadlock's victim by it.
func LockAlone(ctx context.Context, tx pg.Tx, t pg.Table) error {
	return Briefly(ctx, tx, AloneSQL(t))
}

// AloneSQL is the statement of [LockAlone].
func AloneSQL(t pg.Table) string { return "LOCK TABLE " + t.SQL() + " IN ACCESS EXCLUSIVE MODE" }

// Alone runs statements that alter a table, behind [LockAlone]: each by itself would wait for one partition after the other,
// with the ones before locked.
func Alone(ctx context.Context, tx pg.Tx, t pg.Table, statements ...string) error {
	if len(statements) == 0 {
		return nil
	}
	if err := LockAlone(ctx, tx, t); err != nil {
		return err
	}
	return Each(ctx, tx, statements)
}

// Unwritten is [Alone] for statements that need nobody to write the table, such as those that make triggers: readers go on.
func Unwritten(ctx context.Context, tx pg.Tx, t pg.Table, statements ...string) error {
	if len(statements) == 0 {
		return nil
	}
	if err := Briefly(ctx, tx, "LOCK TABLE "+t.SQL()+" IN SHARE ROW EXCLUSIVE MODE"); err != nil {
		return err
	}
	return Each(ctx, tx, statements)
}

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
	return limited(ctx, tx, ddl.BrieflySQL, statements...)
}

func limited(ctx context.Context, tx pg.Tx, limitSQL string, statements ...string) error {
	if _, err := tx.Exec(ctx, limitSQL); err != nil {
		return err
	}
	if err := Each(ctx, tx, statements); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, TimeoutsSQL)
	return err
}

// Each runs statements in their order.
func Each(ctx context.Context, tx pg.Tx, statements []string) error {
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
