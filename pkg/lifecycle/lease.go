package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Kinds of whoever holds a lease.
const (
	LeaseWorker      = "worker"
	LeaseClient      = "client"
	LeaseCoordinator = "coordinator"
)

// Lease says that a program is there, and which keys it carries. A scheme becomes active only when every live lease
// carries the revision that made it readable.
type Lease struct {
	ID, Kind string
	Revision int64         // of the keys that are loaded
	Slots    int           // ranges in work at once; of a worker
	Build    string        // version of the program
	For      time.Duration // how long it counts as there, from now on
}

const presentSQL = `INSERT INTO cipherfleet.workers AS w (id, kind, revision, slots, build, seen_at, expires_at)
SELECT $1, $2, $3, $4, $5, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp() + $6::interval
ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, revision = excluded.revision, slots = excluded.slots, build = excluded.build,
 seen_at = excluded.seen_at, expires_at = excluded.expires_at`

// Present takes a lease, or renews it. A program whose lease has run out must not write until it has renewed it.
func Present(ctx context.Context, q pg.Querier, l Lease) error {
	_, err := q.Exec(ctx, presentSQL, l.ID, l.Kind, l.Revision, l.Slots, l.Build, l.For)
	return wrap(fmt.Sprintf("renew the lease of %s", l.ID), err)
}

// Absent gives a lease up.
func Absent(ctx context.Context, q pg.Querier, id string) error {
	_, err := q.Exec(ctx, `DELETE FROM cipherfleet.workers WHERE id = $1`, id)
	return wrap(fmt.Sprintf("give up the lease of %s", id), err)
}

const liveSQL = `SELECT w.id, w.kind, w.revision, coalesce(w.slots, 0), coalesce(w.build, ''),
 extract(epoch FROM w.expires_at - pg_catalog.clock_timestamp())::float8
 FROM cipherfleet.workers w WHERE w.expires_at > pg_catalog.clock_timestamp() ORDER BY w.id`

// Live is every lease that has not run out, by the server's clock; For is what is left of it.
func Live(ctx context.Context, q pg.Querier) ([]Lease, error) {
	leases, err := collect(ctx, q, func(row pgx.CollectableRow) (l Lease, err error) {
		var left float64
		err = row.Scan(&l.ID, &l.Kind, &l.Revision, &l.Slots, &l.Build, &left)
		l.For = time.Duration(left * float64(time.Second))
		return l, err
	}, liveSQL)
	return leases, wrap("read live leases", err)
}
