package control

import (
	"context"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// What the record of missed writes is brought down to. Writers only ever insert into it, so nothing here can hold one up.
const (
	rollupEvery = time.Minute
	rollupRows  = 5000           // of one transaction
	rollupParts = 20             // transactions for one column and one look
	rollupReach = 24 * time.Hour // a write that committed later than that stays a row of its own
	missedKept  = 30 * 24 * time.Hour
)

// missedColumnsSQL hops through the index from one column to the next.
const missedColumnsSQL = `WITH RECURSIVE c AS (SELECT min(column_id) AS id FROM cipherfleet.missed_writes
 UNION ALL SELECT (SELECT min(m.column_id) FROM cipherfleet.missed_writes m WHERE m.column_id > c.id) FROM c WHERE c.id IS NOT NULL)
SELECT id FROM c WHERE id IS NOT NULL`

// foldSQL makes one row of the rows of one minute, application and role, once the minute is over for a while; the row's
// time is that of the last write. It counts the rows that are gone.
const foldSQL = `WITH crowd AS (SELECT application, role, date_trunc('minute', at) AS minute FROM cipherfleet.missed_writes
  WHERE column_id = $1 AND at >= clock_timestamp() - $2::interval AND at < date_trunc('minute', clock_timestamp()) - interval '1 minute'
  GROUP BY 1, 2, 3 HAVING count(*) > 1 LIMIT 100),
doomed AS (SELECT m.ctid FROM cipherfleet.missed_writes m JOIN crowd c ON m.application = c.application AND m.role = c.role
   AND m.at >= c.minute AND m.at < c.minute + interval '1 minute' WHERE m.column_id = $1 LIMIT $3 FOR UPDATE OF m SKIP LOCKED),
gone AS (DELETE FROM cipherfleet.missed_writes WHERE ctid IN (SELECT ctid FROM doomed) RETURNING application, role, at, writes),
kept AS (INSERT INTO cipherfleet.missed_writes (column_id, at, application, role, writes)
  SELECT $1, max(at), application, role, sum(writes) FROM gone GROUP BY application, role, date_trunc('minute', at))
SELECT count(*) FROM gone`

// forgetSQL counts what it deletes.
const forgetSQL = `WITH gone AS (DELETE FROM cipherfleet.missed_writes WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM cipherfleet.missed_writes WHERE column_id = $1 AND at < clock_timestamp() - $2::interval LIMIT $3)) RETURNING 1)
SELECT count(*) FROM gone`

// rollup keeps the record of missed writes small: a row for each minute, application and role, for a month. What one
// look leaves, the next one finds.
func (p *Plane) rollup(ctx context.Context) error {
	columns, err := pg.Values[int64](ctx, p.DB, missedColumnsSQL)
	if err != nil {
		return fmt.Errorf("add missed writes up: %w", err)
	}
	for _, id := range columns {
		if err := p.inParts(ctx, foldSQL, id, rollupReach, rollupRows); err != nil {
			return fmt.Errorf("add missed writes up: %w", err)
		}
		if err := p.inParts(ctx, forgetSQL, id, missedKept, rollupRows); err != nil {
			return fmt.Errorf("forget missed writes: %w", err)
		}
	}
	return nil
}

// inParts repeats a statement in short transactions, until it finds nothing to do or has done enough.
func (p *Plane) inParts(ctx context.Context, sql string, args ...any) error {
	for range rollupParts {
		var rows int64
		err := p.DB.InTx(ctx, func(tx pg.Tx) error {
			if err := p.lead.fence(ctx, tx); err != nil {
				return err
			}
			return tx.QueryRow(ctx, sql, args...).Scan(&rows)
		})
		if err != nil || rows == 0 {
			return err
		}
	}
	return nil
}
