package work

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Departure says how a leaf stopped being part of a job's table.
type Departure string

// The departures.
const (
	Stays    Departure = ""         // it did not, or the table itself is not what it was
	Dropped  Departure = "dropped"  // its rows are gone with it
	Detached Departure = "detached" // its rows are in a table of their own now, as they were then
)

// departedSQL asks whether the table $1 is still there under its name $3.$4, and what became of the leaf $2.
const departedSQL = `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = $1::oid AND c.oid <> $2::oid AND c.relkind = 'p' AND n.nspname = $3::text AND c.relname = $4::text),
 EXISTS (SELECT FROM pg_partition_tree($1::oid) t WHERE t.relid = $2::oid), EXISTS (SELECT FROM pg_class WHERE oid = $2::oid)`

// departSQL closes the ranges as split ones without children: whoever has one is fenced, and nothing counts as covered by
// it, so that a leaf that comes back is swept. The next is for those of its rows that are in quarantine.
const (
	departSQL = `UPDATE cipherfleet.ranges SET state = 'split', epoch = epoch + 1, owner = NULL, lease_until = NULL
 WHERE job_id = $1 AND relid = $2 AND state = 'pending'`
	departedRowsSQL = `UPDATE cipherfleet.quarantine SET resolved_at = clock_timestamp() WHERE job_id = $1 AND relid = $2 AND resolved_at IS NULL`
)

// Depart closes the ranges of a leaf that was dropped or detached since the job began: no row of the table is left there.
// A leaf that is still part of the table, whatever its name, stays, and nothing is changed.
func (s *Jobs) Depart(ctx context.Context, id string, leaf uint32) (gone Departure, err error) {
	err = s.change(ctx, func(tx pg.Tx) error {
		job, err := jobBy(ctx, tx, "WHERE id::text = $1 FOR UPDATE", id)
		if err != nil {
			return err
		}
		var root, inside, there bool
		if err := tx.QueryRow(ctx, departedSQL, job.Relation, leaf, job.Spec.Schema, job.Spec.Table).Scan(&root, &inside, &there); err != nil || !root || inside {
			return err
		}
		for _, sql := range []string{departSQL, departedRowsSQL} {
			if _, err := tx.Exec(ctx, sql, id, leaf); err != nil {
				return err
			}
		}
		if gone = Dropped; there {
			gone = Detached
		}
		_, err = tx.Exec(ctx, "NOTIFY "+Channel)
		return err
	})
	if err != nil {
		return Stays, fmt.Errorf("let a partition of job %s go: %w", id, err)
	}
	return gone, nil
}
