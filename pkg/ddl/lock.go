package ddl

import "github.com/cipherfleet/cipherfleet/pkg/pg"

// half is half of the time, in milliseconds, after which whoever waits for a lock looks for a deadlock, and would be its victim.
const half = `greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text`

// BrieflySQL limits how long each statement of the transaction may take, and so may wait for all locks of all partitions
// together, to half of the time after which whoever waits for one of them looks for a deadlock.
const BrieflySQL = `SELECT pg_catalog.set_config('statement_timeout', ` + half + `, true),
 pg_catalog.set_config('lock_timeout', '0', true)`

// unbrieflySQL lets statements behind the lock take what they took before [Pin], and wait for what else they need as briefly.
const unbrieflySQL = `SELECT pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('cipherfleet.before_statement_timeout'), true),
 pg_catalog.set_config('lock_timeout', ` + half + `, true)`

// Alone are statements that lock a table with its partitions, behind [Pin].
func Alone(table pg.Table) []string {
	return []string{BrieflySQL, "LOCK TABLE " + table.SQL() + " IN ACCESS EXCLUSIVE MODE", unbrieflySQL}
}
