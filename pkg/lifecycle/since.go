package lifecycle

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Position is where an incremental reader stands. The zero Position is the beginning of the log.
type Position struct {
	After   int64  // every event up to here was handed out
	Through int64  // up to here is settled as soon as Fence lets it
	Fence   uint64 // the first transaction id that had not begun when Through was taken; 0: none taken
}

// sinceSQL reads behind $1 up to $2 if no transaction below fence $3 is still open. An event takes its id after its
// transaction took its own, so whoever holds an id up to a visible one began before the snapshot that shows it.
const sinceSQL = `WITH now AS MATERIALIZED (SELECT pg_catalog.pg_current_snapshot() AS s)
SELECT pg_catalog.pg_snapshot_xmin(now.s)::text::bigint, pg_catalog.pg_snapshot_xmax(now.s)::text::bigint,
 (SELECT coalesce(max(id), 0) FROM cipherfleet.events) FROM now`

const betweenSQL = `SELECT ` + eventColumns + ` FROM cipherfleet.events e WHERE e.id > $1 AND e.id <= $2 ORDER BY e.id LIMIT $3`

// Since hands out events of all columns in the order of ids, each once and none left out, at most limit (or 1000) at a time.
// Ids are not commit order, so it stays behind the oldest transaction that is still open: no events is not the end.
func Since(ctx context.Context, q pg.Querier, p Position, limit int) ([]Event, Position, error) {
	if limit <= 0 {
		limit = 1000
	}
	var oldest, next uint64
	var newest int64
	if err := q.QueryRow(ctx, sinceSQL).Scan(&oldest, &next, &newest); err != nil {
		return nil, p, fmt.Errorf("read events: %w", err)
	}
	if p.After >= p.Through {
		p.Through, p.Fence = newest, next
	}
	if oldest < p.Fence {
		return nil, p, nil
	}
	rows, err := q.Query(ctx, betweenSQL, p.After, p.Through, limit)
	if err != nil {
		return nil, p, fmt.Errorf("read events: %w", err)
	}
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return nil, p, fmt.Errorf("read events: %w", pg.Safe(err))
	}
	p.After = p.Through
	if len(events) == limit {
		p.After = events[limit-1].ID
	}
	return events, p, nil
}
