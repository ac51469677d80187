package backfill

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// ending is how the locked write of one row ended.
type ending int

const (
	oneGone       ending = iota // deleted, moved, or covered meanwhile
	oneWritten                  // written, and covered afterwards
	oneSuppressed               // a trigger kept our update from happening
	oneCleared                  // a trigger changed the source inside our update, so the target was cleared again
)

// alone gives one row the time that a very large value takes. Its waits for others stay as short as a chunk's, by
// lock_timeout, so that nobody becomes a deadlock's victim.
const alone = "SET LOCAL statement_timeout = '30s'"

// one writes a row that loses every race: it is locked, read, sealed and written in one transaction. A row that
// somebody holds is left for later; one that a user's trigger keeps from us is quarantined.
func (w *writer) one(ctx context.Context, r row) error {
	if w.proxy != nil {
		return w.oneThrough(ctx, r)
	}
	h := w.history(r.id())
	for {
		result := oneGone
		err := w.transact(ctx, func(pg.Tx) (keyspace.Key, error) {
			var err error
			if result, err = w.lockAndWrite(ctx, r); err != nil || result == oneGone || result == oneSuppressed {
				return w.claim.Cursor, err
			}
			return w.advance(ctx, progress{points: Checkpoint{Rows: 1}})
		})
		switch {
		case pg.ClassOf(err) == pg.ClassLock || pg.ClassOf(err) == pg.ClassConflict:
			w.skipped++
			return nil
		case pg.ClassOf(err) == pg.ClassData:
			return w.quarantine(ctx, r, reasonRefused+pg.Code(err))
		case errors.Is(err, transform.ErrValue):
			r = r.at(err)
			return w.quarantine(ctx, r, r.reason)
		case errors.Is(err, errAltered):
			return w.quarantine(ctx, r, reasonAltered)
		case err != nil:
			return fmt.Errorf("write one row of %s: %w", w.shape.Table, err)
		case result == oneSuppressed:
			return w.quarantine(ctx, r, reasonSuppressed)
		case result == oneGone:
			return nil
		}
		w.report(Checkpoint{Rows: 1})
		if result == oneWritten {
			return nil
		}
		if h.cleared++; h.cleared >= maxCleared {
			return w.quarantine(ctx, r, reasonCleared)
		}
	}
}

// lockAndWrite reads the row under its lock, seals it and writes it.
func (w *writer) lockAndWrite(ctx context.Context, r row) (ending, error) {
	r, sources, found, err := w.lock(ctx, r)
	if err != nil || !found {
		return oneGone, err
	}
	s := span{rows: []row{r}, values: make([][]transform.Value, len(w.shape.Columns))}
	address, err := w.shape.Keys.Append(nil, r.key)
	if err != nil {
		return oneGone, fmt.Errorf("encode a key of %s: %w", w.shape.Table, err)
	}
	choosers := sources[len(w.shape.Columns):] // and behind them what cells are bound to, and what is stored
	bindings, _, err := w.shape.AppendBound(nil, nil, choosers[w.shape.Choosers():])
	if err != nil {
		return oneGone, err
	}
	for i, c := range w.shape.Columns {
		v := transform.Value{Address: cell.Address{Column: c.ID, Key: address, Bound: bindings}, In: sources[i]}
		if c.Tenant != "" {
			v.Tenant, choosers = choosers[0], choosers[1:]
		}
		s.values[i] = []transform.Value{v}
	}
	take(w.shape, &s.rows[0], choosers[w.shape.Bound():], func(column int, stored []byte) { s.values[column][0].Is = stored })
	asking, done := withinLock(ctx, w.shape)
	defer done()
	if err := seal(asking, w.transforms, s); err != nil {
		return oneGone, err
	}
	if s.settled(0) {
		return oneGone, nil
	}
	return w.writeLocked(ctx, r, s)
}

// lock takes the row and reads its key and sources, and behind them what chooses keys and what is stored; not found also says that it is covered by now. The key may be
// another one than was asked for, and yet equal to it: 'Alice' and 'alice', 1 mon and 30 days.
func (w *writer) lock(ctx context.Context, r row) (locked row, sources [][]byte, found bool, err error) {
	print := ""
	keys := len(w.shape.Key)
	statement := pg.Statement{SQL: w.shape.LockSQL(), Results: w.shape.LockFormats()}
	w.shape.Bind(&statement, keyspace.Bound{Parts: r.key})
	statement.Row = func(wire [][]byte) error {
		found = wire[0][0] == 1
		var own [][]byte
		for _, part := range wire[1:] {
			own = append(own, keepNull(part))
		}
		locked, sources = row{key: own[:keys]}, own[keys:]
		return nil
	}
	err = w.conn.Flight(ctx, pg.Statement{SQL: w.settings, Keep: true}, pg.Statement{SQL: alone}, pg.Statement{SQL: asynchronous}, statement, w.fingerprint(&print))
	if err == nil && print != w.shape.Fingerprint {
		err = keyspace.ErrChanged
	}
	return locked, sources, found, err
}

func keepNull(wire []byte) []byte {
	if wire == nil {
		return nil
	}
	return append([]byte{}, wire...)
}

func (w *writer) writeLocked(ctx context.Context, r row, s span) (ending, error) {
	result := oneSuppressed
	statement := pg.Statement{SQL: w.shape.WriteOneSQL(), Results: append([]int16{1}, w.shape.EchoFormats()...)}
	w.shape.Bind(&statement, keyspace.Bound{Parts: r.key})
	for i, c := range w.shape.Columns {
		if out := c.Output(); out.Sends() {
			statement.Add(s.values[i][0].Out, out.OID, pg.Format(out.Binary))
		}
	}
	statement.Row = func(wire [][]byte) error {
		result = oneWritten
		if wire[0][0] == 1 {
			result = oneCleared
			return nil
		}
		return compareEcho(w.shape, s, 0, wire[1:])
	}
	err := w.conn.Flight(ctx, statement)
	return result, err
}

// foreignAlone is how long a row that is held in a transaction may wait for an encrypter: the server ends idle transactions.
const foreignAlone = idleTimeout * 3 / 4

// withinLock bounds what an encrypter may take while a row is locked for it.
func withinLock(ctx context.Context, s *shape.Shape) (context.Context, context.CancelFunc) {
	for _, c := range s.Columns {
		if c.Foreign() {
			return context.WithTimeout(ctx, foreignAlone)
		}
	}
	return ctx, func() {}
}
