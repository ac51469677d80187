package backfill

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

const readTimeout = 10 * time.Second

// reader reads chunks on a connection of its own; no transaction stays open behind it.
type reader struct {
	shape    *shape.Shape
	conn     *pg.Conn
	settings string
	limits   work.Limits
	sparse   bool // few rows are uncovered: read only those
}

func newReader(conn *pg.Conn, shape *shape.Shape, limits work.Limits, timeout time.Duration, sparse bool) *reader {
	return &reader{shape: shape, conn: conn, limits: limits, sparse: sparse,
		settings: pg.PinnedFor(cmp.Or(timeout, readTimeout))}
}

// read fills b with the uncovered rows among the next rows of (after, through], at most most rows and the byte bound.
func (r *reader) read(ctx context.Context, b *batch, after, through keyspace.Bound, most int) error {
	b.reset(len(r.shape.Columns))
	if !r.sparse {
		b.reserve(most, len(r.shape.Key))
	}
	b.after, b.last = after, after
	full := false // the byte bound was met: what still arrives is dropped
	statement := r.statement(after, through, most)
	statement.Row = func(wire [][]byte) error {
		if full {
			return nil
		}
		err := r.keep(b, wire)
		full = b.bytes >= r.limits.Bytes
		return err
	}
	if err := r.conn.Read(ctx, r.settings, statement); err != nil {
		return fmt.Errorf("read a chunk of %s: %w", r.shape.Table, err)
	}
	b.end = !full && b.scanned < most
	if b.end && !through.Open() {
		b.last = through
	}
	return nil
}

func (r *reader) statement(after, through keyspace.Bound, most int) pg.Statement {
	s := pg.Statement{SQL: r.shape.ReadSQL(!after.Open(), !through.Open(), r.sparse)}
	r.shape.Bind(&s, after)
	r.shape.Bind(&s, through)
	s.Add(strconv.AppendInt(nil, int64(most), 10), pgtype.Int8OID, 0)
	s.Results = r.shape.ReadFormats()
	return s
}

// keep takes one scanned row: every row moves the cursor, an uncovered one is kept.
func (r *reader) keep(b *batch, wire [][]byte) error {
	keys := len(r.shape.Key)
	b.scanned++
	key := b.keepKey(wire[:keys])
	b.last = keyspace.Bound{Parts: key}
	if wire[keys+1][0] == 0 {
		return nil
	}
	kept := row{key: key}
	copy(kept.xmin[:], wire[keys])
	address, err := r.address(b, key)
	if err != nil {
		return err
	}
	b.rows = append(b.rows, kept)
	rest := wire[keys+2+len(r.shape.Columns):]
	bindings, err := r.bindings(b, rest[r.shape.Choosers():])
	if err != nil {
		return err
	}
	for i := range r.shape.Columns {
		c := &r.shape.Columns[i]
		v := transform.Value{Address: cell.Address{Column: c.ID, Key: address, Bound: bindings}, In: b.keep(wire[keys+2+i])}
		if c.Tenant != "" {
			v.Tenant, rest = b.keep(rest[0]), rest[1:]
		}
		b.bytes += int64(len(v.In) + len(v.Tenant))
		b.values[i] = append(b.values[i], v)
	}
	if rest = rest[r.shape.Bound():]; len(rest) == 0 { // nothing is compared
		return nil
	}
	last := len(b.rows) - 1
	take(r.shape, &b.rows[last], rest, func(column int, stored []byte) {
		b.values[column][last].Is = b.keep(stored)
		b.bytes += int64(len(stored))
	})
	return nil
}

func (r *reader) address(b *batch, key [][]byte) ([]byte, error) {
	start := len(b.arena)
	arena, err := r.shape.Keys.Append(b.arena, key)
	if err != nil {
		return nil, fmt.Errorf("encode a key of %s: %w", r.shape.Table, err)
	}
	b.arena = arena
	return arena[start:len(arena):len(arena)], nil
}

// bindings encodes what the row's cells may be bound to beside its key.
func (r *reader) bindings(b *batch, wire [][]byte) (list []cell.Bound, err error) {
	if len(r.shape.Bindings) == 0 {
		return nil, nil
	}
	list, b.arena, err = r.shape.AppendBound(make([]cell.Bound, 0, len(r.shape.Bindings)), b.arena, wire)
	return list, err
}

// take puts what was read of [shape.Shape.stored] into a row and its values: of is that of a column.
func take(s *shape.Shape, r *row, wire [][]byte, of func(column int, stored []byte)) {
	if len(wire) == 0 {
		return
	}
	r.suspect = wire[0][0] == 1
	next := 1
	for i, c := range s.Columns {
		if c.Compares() {
			of(i, wire[next])
			next++
		}
	}
}
