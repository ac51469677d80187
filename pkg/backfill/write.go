package backfill

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Timeouts bound what a chunk may do to others. Statement stays below the server's deadlock_timeout, so that the
// fleet gives way before Postgres looks for a victim among the application's transactions.
type Timeouts struct {
	Lock, Statement time.Duration
	Read            time.Duration // of a chunk's read, which locks nobody out; default 10 s
}

const idleTimeout = 2 * time.Second // a worker frozen inside its transaction lets its row locks go after this

// writer commits the chunks of one claim, in order, on a connection of its own.
type writer struct {
	shape      *shape.Shape
	conn       *pg.Conn
	proxy      *pg.Conn   // nil: there is none, and what is written is written on conn
	claim      work.Claim // Cursor is what is committed
	lease      time.Duration
	size       *Sizer
	log        *lifecycle.Log
	columns    []lifecycle.Event // one per column: what every event of it has in common
	transforms []transform.Transform
	reader     *reader // of the same connection: for rows that must be read again
	settings   string
	report     func(Checkpoint)
	budget     int // rows a job may have in quarantine

	seen    map[string]*history // rows of the chunk in hand that were not written at the first try
	retries int                 // serialization failures of the chunk in hand
	skipped int64               // rows passed over since the last checkpoint
	alone   int64               // rows written through the proxy alone since then
	renewed time.Time           // when the lease was last known to be renewed
	arrays  []array             // scratch
}

func (w *writer) writeSettings(t Timeouts) string {
	s := fmt.Sprintf("%s, pg_catalog.set_config('cipherfleet.writer','%s',true), pg_catalog.set_config('lock_timeout','%d',true), pg_catalog.set_config('statement_timeout','%d',true), pg_catalog.set_config('idle_in_transaction_session_timeout','%d',true)",
		pg.Pinned, w.shape.Writer(), t.Lock.Milliseconds(), t.Statement.Milliseconds(), idleTimeout.Milliseconds())
	if w.shape.SkipUser {
		s += ", pg_catalog.set_config('session_replication_role','replica',true)"
	}
	return s
}

// asynchronous is for chunks inside a range: the last one, and every claim, commits synchronously and with it all
// that went before. A lost commit loses data, cursor and checkpoint together.
const asynchronous = "SET LOCAL synchronous_commit = off"

func commitMode(done bool) string {
	if done {
		return pg.Durable
	}
	return asynchronous
}

// transact runs f in one transaction under the writer's settings. The settings and f's statements are f's to send.
func (w *writer) transact(ctx context.Context, f func(pg.Tx) (keyspace.Key, error)) error {
	tx, err := w.conn.BeginAbroad(ctx) // users' triggers fire
	if err != nil {
		return fmt.Errorf("begin a chunk: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing
	cursor, err := f(tx)
	if err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit a chunk: %w", err)
	}
	w.claim.Cursor, w.renewed = cursor, time.Now()
	return nil
}

// write is one chunk: compare-and-set of the span's rows, the fingerprint under the lock that the update holds, the
// checkpoint, commit. The cursor passes the span only if every row was written. It returns the rows written.
func (w *writer) write(ctx context.Context, s span) (int64, error) {
	if w.proxy != nil {
		return w.writeThrough(ctx, s)
	}
	started := time.Now()
	var affected, cleared int64
	var points Checkpoint
	err := w.transact(ctx, func(pg.Tx) (_ keyspace.Key, err error) {
		if affected, cleared, err = w.update(ctx, s); err != nil {
			return nil, err
		}
		if affected > int64(len(s.rows)) {
			return nil, fmt.Errorf("write a chunk of %s: more rows were written than sent; the key is not unique", w.shape.Table)
		}
		points = Checkpoint{Rows: affected, Skipped: w.skipped + cleared, Conflicts: int64(len(s.rows)) - affected}
		to := keyspace.Bound{}
		if points.Conflicts == 0 {
			to, points.Done = s.last, s.end
		}
		return w.advance(ctx, progress{to: to, points: points})
	})
	if err != nil {
		return 0, err
	}
	points.Took = time.Since(started)
	w.skipped = 0
	w.size.wrote(len(s.rows), points.Took)
	w.report(points)
	return affected, nil
}

// update sends the settings, the compare-and-set and the fingerprint in one flight. It returns the rows written and
// how many of them a trigger cleared again in the same moment; the first pass does not look, because a sweep follows.
func (w *writer) update(ctx context.Context, s span) (affected, cleared int64, err error) {
	print := ""
	look := w.claim.Pass > 0
	statement := w.updateStatement(s, look)
	switch {
	case w.shape.Echoes():
		statement.Results = append([]int16{1, 1}, w.shape.EchoFormats()...)
		statement.Row = func(wire [][]byte) error {
			if affected++; wire[1][0] == 1 {
				cleared++
				return nil
			}
			return compareEcho(w.shape, s, int(binary.BigEndian.Uint64(wire[0]))-1, wire[2:])
		}
	case look:
		statement.Row = func(wire [][]byte) (err error) {
			if affected, err = strconv.ParseInt(string(wire[0]), 10, 64); err == nil {
				cleared, err = strconv.ParseInt(string(wire[1]), 10, 64)
			}
			return err
		}
	default:
		statement.Affected = &affected
	}
	err = w.conn.Flight(ctx, pg.Statement{SQL: w.settings, Keep: true}, pg.Statement{SQL: commitMode(s.end)}, statement, w.fingerprint(&print))
	if err != nil {
		return 0, 0, fmt.Errorf("write a chunk of %s: %w", w.shape.Table, err)
	}
	if print != w.shape.Fingerprint {
		return 0, 0, keyspace.ErrChanged
	}
	return affected, cleared, nil
}

func (w *writer) fingerprint(into *string) pg.Statement {
	statement := pg.Statement{SQL: w.shape.CheckSQL, Keep: true, Row: func(wire [][]byte) error {
		*into = string(wire[0])
		return nil
	}}
	statement.AddText(strconv.FormatUint(uint64(w.shape.Leaf), 10))
	return statement
}

func (w *writer) updateStatement(s span, look bool) pg.Statement {
	statement := pg.Statement{SQL: w.shape.UpdateSQL(!s.after.Open(), s.skipLocked, look)}
	if len(w.arrays) == 0 {
		w.arrays = make([]array, len(w.shape.Key)+1+len(w.shape.Columns))
	}
	next := 0
	send := func(element, arrayOID uint32, isBinary bool, at func(i int) []byte) {
		a := &w.arrays[next]
		next++
		a.reset(element, isBinary)
		for i := range s.rows {
			a.add(at(i))
		}
		statement.Add(a.bytes(), arrayOID, a.format())
	}
	for k, column := range w.shape.Key {
		send(column.OID, column.ArrayOID, column.Binary, func(i int) []byte { return s.rows[i].key[k] })
	}
	send(pgtype.XIDOID, pgtype.XIDArrayOID, true, func(i int) []byte { return s.rows[i].xmin[:] })
	for c, column := range w.shape.Columns {
		out := column.Output()
		if !out.Sends() {
			continue
		}
		send(out.OID, out.List, out.Binary, func(i int) []byte { return s.values[c][i].Out })
	}
	w.shape.Bind(&statement, keyspace.Bound{Parts: s.rows[len(s.rows)-1].key})
	w.shape.Bind(&statement, s.after)
	return statement
}

// pass moves the cursor over a span that needs no write. Far from the end of a lease nothing is sent: a cursor that
// lags behind costs some reading after a crash, a transaction per covered chunk would cost it always.
func (w *writer) pass(ctx context.Context, s span) error {
	if w.proxy != nil {
		_, err := w.writeThrough(ctx, s)
		return err
	}
	if !s.end && w.skipped == 0 && time.Since(w.renewed) < w.lease/3 {
		return nil
	}
	points := Checkpoint{Skipped: w.skipped, Done: s.end}
	err := w.transact(ctx, func(pg.Tx) (keyspace.Key, error) {
		if err := w.conn.Flight(ctx, pg.Statement{SQL: w.settings, Keep: true}, pg.Statement{SQL: commitMode(s.end)}); err != nil {
			return nil, err
		}
		return w.advance(ctx, progress{to: s.last, points: points})
	})
	if err != nil {
		return fmt.Errorf("pass a chunk of %s: %w", w.shape.Table, err)
	}
	w.skipped = 0
	w.report(points)
	return nil
}
