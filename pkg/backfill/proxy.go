package backfill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// A column whose values an encrypting proxy makes is written in two transactions. The first goes through the proxy and
// sends plaintext, each row by a compare-and-set of its own. The second goes past it: it reads what is stored for every
// row of the chunk, demands that it is what such a column may hold and does not show its source, and moves the cursor
// under the claim. Who dies in between leaves rows that are covered; whoever takes the range proves them before its
// cursor passes them.

// Proxy connects to an encrypting proxy in front of the same database.
type Proxy func(ctx context.Context) (*pg.Conn, error)

// sparse says whether only uncovered rows are read: few are left after the first pass, or there are few from the
// beginning. What a proxy had stored is read again and again.
func (x *Executor) sparse(claim work.Claim) bool {
	return (claim.Pass > 0 || x.Shape.Columns[0].Listed) && !x.Shape.Proxied()
}

func (x *Executor) dial(ctx context.Context) (*pg.Conn, error) {
	if x.Proxy == nil {
		return nil, fmt.Errorf("reach the proxy: none is configured here: %w", transform.ErrEncrypter)
	}
	conn, err := x.Proxy(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("reach the proxy: %w: %w", transform.ErrEncrypter, err)
	}
	return conn, err
}

// sending is the flight's statement for one row.
func (w *writer) sending(sql string, s span, i int, affected *int64) pg.Statement {
	statement := pg.Statement{SQL: sql, Affected: affected}
	for c, column := range w.shape.Columns {
		statement.Add(s.values[c][i].Out, column.Output().OID, 0)
	}
	w.shape.Bind(&statement, keyspace.Bound{Parts: s.rows[i].key})
	statement.Add([]byte(strconv.FormatUint(uint64(binary.BigEndian.Uint32(s.rows[i].xmin[:])), 10)), pgtype.XIDOID, 0)
	return statement
}

// send writes the span's plaintexts through the proxy in one transaction, and returns how many rows each of them met.
func (w *writer) send(ctx context.Context, s span) ([]int64, error) {
	told, sql := make([]int64, len(s.rows)), w.shape.PlainSQL()
	flight := []pg.Statement{{SQL: beginSQL}, {SQL: w.settings}}
	for i := range s.rows {
		flight = append(flight, w.sending(sql, s, i, &told[i]))
	}
	err := w.proxy.Flight(ctx, append(flight, pg.Statement{SQL: "COMMIT"})...)
	if err != nil {
		return nil, w.refused(ctx, err)
	}
	return told, nil
}

const beginSQL = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

// refused ends the transaction on the proxy and says whose fault it was that it failed.
func (w *writer) refused(ctx context.Context, err error) error {
	_, _ = w.proxy.Exec(context.WithoutCancel(ctx), "ROLLBACK") // a dead connection is thrown away by its owner
	switch pg.ClassOf(err) {
	case pg.ClassUnavailable:
		err = fmt.Errorf("%w: %w", transform.ErrEncrypter, err)
	case pg.ClassSchema: // unless the table changed, no proxy is there that makes payloads of plaintext
		if shape := w.transact(ctx, func(pg.Tx) (keyspace.Key, error) { return w.claim.Cursor, w.sameShape(ctx) }); shape != nil {
			return shape
		}
		err = fmt.Errorf("%w: SQLSTATE %s", transform.ErrAnswer, pg.Code(err))
	}
	return fmt.Errorf("write a chunk of %s through the proxy: %w", w.shape.Table, err)
}

// sameShape demands that the table is what it was when the job began.
func (w *writer) sameShape(ctx context.Context) error {
	print := ""
	if err := w.conn.Flight(ctx, w.fingerprint(&print)); err != nil {
		return err
	}
	if print != w.shape.Fingerprint {
		return keyspace.ErrChanged
	}
	return nil
}

// oneThrough writes a row that loses every race: it is locked through the proxy, read past it, and written. What is
// stored is proved with its chunk.
func (w *writer) oneThrough(ctx context.Context, r row) error {
	told, err := w.sendLocked(ctx, r)
	switch {
	case pg.ClassOf(err) == pg.ClassLock || pg.ClassOf(err) == pg.ClassConflict:
		w.skipped++
		return nil
	case errors.Is(err, transform.ErrEncrypter) || errors.Is(err, transform.ErrAnswer):
		return err
	case pg.ClassOf(err) == pg.ClassData:
		return w.quarantine(ctx, r, reasonRefused+pg.Code(err))
	case err != nil:
		return fmt.Errorf("write one row of %s: %w", w.shape.Table, err)
	case told == nil:
		return nil
	case *told == 0:
		return w.quarantine(ctx, r, reasonSuppressed)
	}
	w.alone++
	return nil
}

// sendLocked returns how many rows the write met; nil: there was nothing to write any more.
func (w *writer) sendLocked(ctx context.Context, r row) (*int64, error) {
	lock := pg.Statement{SQL: w.shape.PlainLockSQL()}
	w.shape.Bind(&lock, keyspace.Bound{Parts: r.key})
	if err := w.proxy.Flight(ctx, pg.Statement{SQL: beginSQL}, pg.Statement{SQL: w.settings}, lock); err != nil {
		return nil, w.refused(ctx, err)
	}
	s, err := w.present(ctx, r)
	if err != nil || len(s.rows) == 0 {
		_, _ = w.proxy.Exec(context.WithoutCancel(ctx), "ROLLBACK")
		return nil, err
	}
	told := new(int64)
	if err := w.proxy.Flight(ctx, w.sending(w.shape.PlainSQL(), s, 0, told), pg.Statement{SQL: "COMMIT"}); err != nil {
		return nil, w.refused(ctx, err)
	}
	return told, nil
}

// present reads a row that nobody can change now, and hands its sources on; a span of no row: it is covered, or gone.
func (w *writer) present(ctx context.Context, r row) (span, error) {
	var s span
	statement := pg.Statement{SQL: w.shape.PresentSQL(), Results: w.shape.PresentFormats()}
	w.shape.Bind(&statement, keyspace.Bound{Parts: r.key})
	statement.Row = func(wire [][]byte) error {
		if wire[0][0] == 0 {
			return nil
		}
		now := row{key: r.key}
		copy(now.xmin[:], wire[1])
		s.rows = []row{now}
		for _, source := range wire[2:] {
			s.values = append(s.values, []transform.Value{{In: keepNull(source)}})
		}
		return nil
	}
	if err := w.conn.Read(ctx, w.reader.settings, statement); err != nil {
		return s, fmt.Errorf("read one row of %s: %w", w.shape.Table, err)
	}
	if len(s.rows) == 0 {
		return s, nil
	}
	return s, seal(ctx, w.transforms, s)
}
