package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// application is what the database is there for. It never waits for the fleet and never looks at it.
type application struct {
	w      *world
	sql    statements
	last   atomic.Int64 // number of the newest row
	hot    int64        // number of the row that is updated all the time
	seal   atomic.Pointer[sealer]
	ready  chan struct{} // closed when the targets are there
	counts struct{ committed, rolledBack, lostRaces, cutOff atomic.Int64 }

	mu       sync.Mutex
	slowest  time.Duration
	troubles []string // what the fleet must never do to an application
}

const writers = 4

func newApplication(w *world) *application {
	a := &application{w: w, hot: w.plan.rows / 2, ready: make(chan struct{}), sql: newStatements(w.plan)}
	a.last.Store(w.plan.rows)
	return a
}

func (a *application) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("%d transactions committed, %d rolled back, %d lost a race of snapshots, %d cut off by an outage; the slowest took %v",
		a.counts.committed.Load(), a.counts.rolledBack.Load(), a.counts.lostRaces.Load(), a.counts.cutOff.Load(), a.slowest.Round(time.Millisecond))
}

// start lets the writers write until ctx ends.
func (a *application) start(ctx context.Context) *sync.WaitGroup {
	var all sync.WaitGroup
	for i := range writers {
		r := chance(a.w.plan.seed, forWriters+uint64(i))
		all.Go(func() { a.keep(ctx, r, 0, 16*time.Millisecond, func(tx pgx.Tx) error { return a.mixed(ctx, tx, r) }) })
	}
	alone := func(purpose uint64, least, most time.Duration, deed func(context.Context, pgx.Tx, *rand.Rand) error) {
		r := chance(a.w.plan.seed, purpose)
		all.Go(func() { a.keep(ctx, r, least, most, func(tx pgx.Tx) error { return deed(ctx, tx, r) }) })
	}
	alone(forHot, 0, 10*time.Millisecond, func(ctx context.Context, tx pgx.Tx, r *rand.Rand) error { return a.update(ctx, tx, r, a.hot) })
	all.Go(func() {
		select {
		case <-a.ready: // altering a table needs a moment without a long transaction
			alone(forLocks, 100*time.Millisecond, time.Second, a.hold)
			alone(forCrowd, 0, 60*time.Millisecond, a.crowd)
		case <-ctx.Done():
		}
	})
	return &all
}

// sealed lets honest writers begin: from now on they know the keys.
func (a *application) sealed(ctx context.Context) {
	a.w.t.Helper()
	keys, err := lifecycle.LoadKeys(ctx, a.w.db.DB, a.w.kek)
	a.w.must(err)
	s := &sealer{keyring: keys.Keyring}
	for _, name := range a.w.plan.sources() {
		var id uint32
		a.w.must(a.w.db.QueryRow(ctx, `SELECT id FROM cipherfleet.columns WHERE source = $1`, name).Scan(&id))
		s.schemes = append(s.schemes, keys.Active[id])
	}
	a.seal.Store(s)
	close(a.ready)
}

// keep runs one transaction after the other on a connection of its own, with pauses, and reconnects when it must.
func (a *application) keep(ctx context.Context, r *rand.Rand, least, most time.Duration, f func(pgx.Tx) error) {
	var conn *pgx.Conn
	var outages int64 // before the connection was made: it does not survive another
	for ctx.Err() == nil {
		if conn == nil || conn.IsClosed() {
			outages = a.w.outages.Load()
			conn = a.reconnect(ctx)
			continue
		}
		began := time.Now()
		err := a.transact(ctx, r, conn, f)
		if ctx.Err() == nil {
			a.judge(err, outages, time.Since(began))
		}
		rest(ctx, between(r, least, most))
	}
	if conn != nil {
		conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the end
	}
}

func (a *application) reconnect(ctx context.Context) *pgx.Conn {
	var conn *pgx.Conn
	_ = eventually(ctx, func() (err error) { // its only error is the end of the application
		conn, err = a.w.connect(ctx)
		return err
	})
	return conn
}

var errRollback = errors.New("the application thought better of it")

// transact commits or rolls back in whatever isolation the database has by default.
func (a *application) transact(ctx context.Context, r *rand.Rand, conn *pgx.Conn, f func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	if r.IntN(10) == 0 {
		return errRollback
	}
	return tx.Commit(ctx)
}

// judge tells what may happen to a transaction from what the fleet must never cause.
func (a *application) judge(err error, outages int64, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var server *pgconn.PgError
	cutOff := outages != a.w.outages.Load() || outages%2 == 1
	switch {
	case err == nil:
		a.counts.committed.Add(1)
		if !cutOff {
			a.slowest = max(a.slowest, took)
		}
	case errors.Is(err, errRollback):
		a.counts.rolledBack.Add(1)
	case cutOff && !strings.HasPrefix(err.Error(), "the mirror"):
		a.counts.cutOff.Add(1)
	case errors.As(err, &server) && server.Code == "40001" && a.w.plan.isolation != "":
		a.counts.lostRaces.Add(1)
	default:
		a.troubles = append(a.troubles, fmt.Sprintf("%v after %v, %v into the seed", err, took, time.Since(a.w.began)))
	}
}
