package control

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// ErrDeposed says that another coordinator leads now; what was about to be written was not.
var ErrDeposed = errors.New("another coordinator leads")

// ErrLed says that another coordinator leads already.
var ErrLed = errors.New("another coordinator leads this installation")

// leadership is what makes this coordinator the one that decides: an advisory lock, held by one direct connection,
// keeps others from trying, and an epoch in every write keeps out one that does not know yet that it lost the lock.
type leadership struct {
	epoch atomic.Int64
	woken chan struct{}
}

// Two halves of the advisory lock's key: "cpfl", and what it is for.
const (
	lockSpace = 0x6370666c
	lockLead  = 1
)

// keepalives are the settings of that connection. What it commits must outlive a crash whatever the database's default
// is: an epoch that went back would let a leader of before write again.
const keepalives = `SELECT pg_catalog.set_config('tcp_keepalives_idle', '5', false), pg_catalog.set_config('tcp_keepalives_interval', '5', false),
 pg_catalog.set_config('tcp_keepalives_count', '3', false), pg_catalog.set_config('idle_session_timeout', '0', false),
 pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false), pg_catalog.set_config('synchronous_commit',
  CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN 'on' ELSE pg_catalog.current_setting('synchronous_commit') END, false)`

// campaign takes the lock on a connection of its own, or returns ErrLed; once won, the epoch is this coordinator's.
func (p *Plane) campaign(ctx context.Context) (conn *pg.Conn, err error) {
	held, err := p.DB.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	defer func() {
		if err != nil {
			held.Discard(context.WithoutCancel(ctx))
		}
	}()
	if _, err = held.Exec(ctx, keepalives); err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	won := false
	if err = held.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, $2)`, lockSpace, lockLead).Scan(&won); err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	if !won {
		return nil, ErrLed
	}
	var epoch int64
	err = held.QueryRow(ctx, `UPDATE cipherfleet.installation SET coordinator_epoch = coordinator_epoch + 1 RETURNING coordinator_epoch`).Scan(&epoch)
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	if _, err = held.Exec(ctx, "LISTEN "+work.Channel); err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	p.lead.epoch.Store(epoch)
	return held, nil
}

// leader is what the server tells about the session that holds the lock, for a log: who waits for ever wants to know for
// whom.
func (p *Plane) leader(ctx context.Context) (about []any) {
	var pid int
	var name, address string
	const sql = `SELECT l.pid, coalesce(a.application_name, ''), coalesce(a.client_addr::text, '') FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1::int8::oid AND l.objid = $2::int8::oid
 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	if err := p.DB.QueryRow(ctx, sql, lockSpace, lockLead).Scan(&pid, &name, &address); err != nil {
		return nil // it is gone, or may not be seen
	}
	return []any{"pid", pid, "application", name, "address", address}
}

// abdicate lets others lead. It gives the lock back before it closes the connection: whoever asks for it next would else
// find it held for as long as the server needs to see that nobody is there.
func abdicate(ctx context.Context, conn *pg.Conn) {
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = conn.Exec(bye, `SELECT pg_catalog.pg_advisory_unlock($1, $2)`, lockSpace, lockLead) // a dead connection has none
	conn.Discard(bye)
}

// fence proves inside a transaction that this coordinator still leads; whoever wins later waits for the commit.
func (l *leadership) fence(ctx context.Context, tx pg.Tx) error {
	var epoch int64
	if err := tx.QueryRow(ctx, `SELECT coordinator_epoch FROM cipherfleet.installation FOR SHARE`).Scan(&epoch); err != nil {
		return fmt.Errorf("check who leads: %w", err)
	}
	if epoch != l.epoch.Load() {
		return ErrDeposed
	}
	return nil
}

// wake lets the leader look around at once.
func (l *leadership) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// await waits until a range was closed, somebody woke the leader, or the time has come to look anyway. An error says
// that the connection, and with it the lock, is gone.
func (p *Plane) await(ctx context.Context, conn *pg.Conn) error {
	waiting, cancel := context.WithTimeout(ctx, p.Reconcile)
	defer cancel()
	notified := make(chan error, 1)
	go func() { notified <- conn.Notified(waiting) }()
	select {
	case <-p.lead.woken:
		cancel()
		<-notified
	case err := <-notified:
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("keep the lead: %w", err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ping, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	if _, err := conn.Exec(ping, "SELECT 1"); err != nil {
		return fmt.Errorf("keep the lead: %w", err)
	}
	return nil
}
