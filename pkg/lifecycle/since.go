package lifecycle

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Position is where an incremental reader stands. The zero Position is the beginning of the log.
type Position struct {
	After   int64  // every event up to here was handed out
	Through int64  // up to here nothing more can appear once every transaction below Fence has ended
	Fence   uint64 // a transaction id; 0: none was taken yet
}

const betweenSQL = `SELECT ` + eventColumns + ` FROM cipherfleet.events e WHERE e.id > $1 AND e.id <= $2 ORDER BY e.id LIMIT $3`

// Since hands out events of all columns in the order of ids, each once and none left out, at most limit (or 1000) at a
// time. Ids are not commit order, so it stays behind the oldest transaction that is still open: no events is not the
// end, ask again later. It needs the primary: each time there is something new, it uses up one transaction id.
func Since(ctx context.Context, db *pg.DB, p Position, limit int) ([]Event, Position, error) {
	if limit <= 0 {
		limit = 1000
	}
	settled, err := settle(ctx, db, &p)
	if err != nil {
		return nil, p, fmt.Errorf("read events: %w", err)
	}
	if !settled {
		return nil, p, nil
	}
	events, err := collect(ctx, db, scanEvent, betweenSQL, p.After, p.Through, limit)
	if err != nil {
		return nil, p, fmt.Errorf("read events: %w", err)
	}
	p.After = p.Through
	if len(events) == limit {
		p.After = events[limit-1].ID
	}
	return events, p, nil
}

// settle looks for newer events if there are none left to hand out, and says whether all up to Through are there. An
// event takes its id after its transaction took its own. So whoever holds an id up to a visible one has a transaction
// id already, and it is below one that is taken now. The snapshot's xmax would not do: it is the end of what has
// completed, and open transactions may lie beyond it.
func settle(ctx context.Context, db *pg.DB, p *Position) (bool, error) {
	if p.After >= p.Through {
		var newest int64
		if err := db.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM cipherfleet.events`).Scan(&newest); err != nil || newest <= p.After {
			return false, err
		}
		if err := db.QueryRow(ctx, `SELECT pg_catalog.pg_current_xact_id()::text::bigint`).Scan(&p.Fence); err != nil {
			return false, err
		}
		p.Through = newest
	}
	var oldest uint64
	err := db.QueryRow(ctx, `SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint`).Scan(&oldest)
	return oldest > p.Fence, err
}
