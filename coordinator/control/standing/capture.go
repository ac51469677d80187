package standing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// MissedBy is who wrote a source without its cell, how often, and when last.
type MissedBy struct {
	Application string    `json:"application"` // application_name of the sessions; whatever they said
	Role        string    `json:"role"`        // that logged in, whatever role it has taken since
	Writes      int64     `json:"writes"`
	Last        time.Time `json:"last"`
}

// MayReadMissedSQL says whether this role may read who missed a cell.
const MayReadMissedSQL = `SELECT coalesce(has_table_privilege(to_regclass('cipherfleet.missed_writes')::oid, 'SELECT'), false)`

const missedBySQL = `SELECT application, role, sum(writes)::bigint, max(at) FROM cipherfleet.missed_writes
 WHERE column_id = $1 AND at > clock_timestamp() - $2::interval GROUP BY 1, 2 ORDER BY 4 DESC, 1, 2`

// ReadMissed is who missed the column's target in so long before now, the latest first. It is nil, not empty, where the
// reader may not know.
func ReadMissed(ctx context.Context, q pg.Querier, column uint32, window time.Duration) ([]MissedBy, error) {
	may := false
	if err := q.QueryRow(ctx, MayReadMissedSQL).Scan(&may); err != nil {
		return nil, fmt.Errorf("look for missed writes: %w", err)
	}
	if !may {
		return nil, nil
	}
	list, err := pg.Collect(ctx, q, missedBySQL, pgx.RowToStructByPos[MissedBy], column, window)
	if err != nil {
		return nil, fmt.Errorf("look for missed writes: %w", err)
	}
	return list, nil
}

// IsStrict says that writes which miss the column's target fail.
func IsStrict(r pg.Relation, id uint32) bool {
	on := 0
	for _, t := range r.Triggers {
		if slices.Contains(ddl.StrictTriggers(id), t.Name) && t.Table.OID == r.OID && (t.Enabled == "O" || t.Enabled == "A") {
			on++
		}
	}
	return on == len(ddl.StrictTriggers(id))
}

// IsOurs says that cipherfleet made the trigger.
func IsOurs(t pg.Trigger) bool {
	return strings.HasPrefix(t.Name, ddl.TriggerPrefix) && strings.HasPrefix(t.Function, "cipherfleet.")
}

// Alters says that a trigger of somebody else's sees rows before they are written, and may change them.
func Alters(t pg.Trigger) bool {
	return !IsOurs(t) && t.Row && t.Timing == "BEFORE" && t.Enabled != "D" && (slices.Contains(t.Events, "INSERT") || slices.Contains(t.Events, "UPDATE"))
}

// Late is one that does so behind ours.
func Late(r pg.Relation) (pg.Trigger, bool) {
	at := slices.IndexFunc(r.Triggers, func(t pg.Trigger) bool { return Alters(t) && t.Name >= ddl.TriggerPrefix })
	if at < 0 {
		return pg.Trigger{}, false
	}
	return r.Triggers[at], true
}

// CheckLast refuses a table that has a [Late] trigger.
func CheckLast(r pg.Relation) error {
	if t, late := Late(r); late {
		return Refuse("table", "give it a name that sorts before the tilde",
			"trigger %q on %s would run after ours, which must be the last to see a row", t.Name, t.Table.Table())
	}
	return nil
}

// Watched says that the column's capture triggers stand, there and in every partition, as this version installs them, and
// fire for every writer.
func (s Standing) Watched() bool {
	c := s.DDL()
	own, guards := 0, c.Guards()
	for _, t := range s.Relation.Triggers {
		if _, is := guards[t.Name]; !is {
			continue
		}
		if t.Enabled != "A" || !c.IsGuard(t) {
			return false
		}
		if t.Table.OID == s.Relation.OID {
			own++
		}
	}
	return own == len(guards)
}

const capturedSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = pg_catalog.to_regclass($1)::oid AND tgname = ANY ($2::text[]))`

// Capture has writes noticed that miss the column's target. Where an earlier capture stands some of it is dropped, which
// readers are kept out for, too.
func Capture(ctx context.Context, tx pg.Tx, c ddl.Column) error {
	stands := false
	if err := tx.QueryRow(ctx, capturedSQL, c.Table.SQL(), ddl.AnyCaptureTriggers(c.ID)).Scan(&stands); err != nil {
		return fmt.Errorf("look for an earlier capture: %w", err)
	}
	if stands {
		return Alone(ctx, tx, c.Table, c.Capture().Do...)
	}
	return Unwritten(ctx, tx, c.Table, c.Capture().Do...)
}

// WatchedInReverse says that the column's reverse capture stands, there and in every partition, and fires for every
// writer.
func (s Standing) WatchedInReverse() bool {
	own := 0
	for _, t := range s.Relation.Triggers {
		if !slices.Contains(ddl.ReverseTriggers(s.ID), t.Name) {
			continue
		}
		if t.Enabled != "A" {
			return false
		}
		if t.Table.OID == s.Relation.OID {
			own++
		}
	}
	return own == len(ddl.ReverseTriggers(s.ID))
}
