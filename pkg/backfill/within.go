package backfill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// ErrMany says that more rows are uncovered than may be carried at once.
var ErrMany = errors.New("too many rows are uncovered")

// Within carries the few uncovered rows of a shape in reverse to the other side inside a transaction of the caller's,
// who keeps writers away from the leaf. It returns the rows written. [ErrMany]: there are more than most, and none was
// written; any error means that the transaction must not commit. It pins the transaction's settings; users' triggers
// fire abroad, and everything else is at home.
func Within(ctx context.Context, tx pg.Tx, s *shape.Shape, keyring *cell.Keyring, most int) (int64, error) {
	conn := tx.Conn().PgConn()
	if err := beginWithin(ctx, tx, s); err != nil {
		return 0, err
	}
	if !s.Echoes() {
		return 0, errors.New("carry rows inside a transaction: only in reverse")
	}
	r, b := &reader{shape: s, sparse: true}, &batch{}
	b.reset(len(s.Columns))
	statement := r.statement(keyspace.Bound{}, keyspace.Bound{}, most+1)
	rows, err := ask(ctx, conn, statement)
	if err != nil {
		return 0, fmt.Errorf("read what is uncovered in %s: %w", s.Table, err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	if len(rows) > most {
		return 0, ErrMany
	}
	for _, wire := range rows {
		if err := r.keep(b, wire); err != nil {
			return 0, err
		}
	}
	transforms := make([]transform.Transform, len(s.Columns))
	for i, c := range s.Columns {
		if transforms[i], err = c.Transform(keyring); err != nil {
			return 0, err
		}
	}
	if err := seal(ctx, transforms, b.span); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, pg.Abroad); err != nil {
		return 0, err
	}
	written, err := writeWithin(ctx, conn, s, b.span)
	if err == nil {
		_, err = tx.Exec(ctx, pg.Home)
	}
	return written, err
}

func beginWithin(ctx context.Context, tx pg.Tx, s *shape.Shape) error {
	settings := []string{pg.Pinned, "SELECT pg_catalog.set_config('cipherfleet.writer','fleet',true)"}
	if s.SkipUser {
		settings = append(settings, "SELECT pg_catalog.set_config('session_replication_role','replica',true)")
	}
	for _, sql := range settings {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	print := ""
	if err := tx.QueryRow(ctx, s.CheckSQL, strconv.FormatUint(uint64(s.Leaf), 10)).Scan(&print); err != nil {
		return fmt.Errorf("take the fingerprint of %s: %w", s.Table, err)
	}
	if print != s.Fingerprint {
		return keyspace.ErrChanged
	}
	return nil
}

// writeWithin demands that every row of the span is written, covered, and stored as it was sent.
func writeWithin(ctx context.Context, conn *pgconn.PgConn, s *shape.Shape, sp span) (int64, error) {
	w := &writer{shape: s}
	statement := w.updateStatement(sp, false)
	statement.Results = append([]int16{1, 1}, s.EchoFormats()...)
	rows, err := ask(ctx, conn, statement)
	if err != nil {
		return 0, fmt.Errorf("write what was uncovered in %s: %w", s.Table, err)
	}
	if len(rows) != len(sp.rows) {
		return 0, fmt.Errorf("write what was uncovered in %s: %w", s.Table, errAltered)
	}
	for _, wire := range rows {
		if wire[1][0] == 1 {
			return 0, fmt.Errorf("write what was uncovered in %s: %w", s.Table, errAltered)
		}
		if err := compareEcho(s, sp, int(binary.BigEndian.Uint64(wire[0]))-1, wire[2:]); err != nil {
			return 0, fmt.Errorf("write what was uncovered in %s: %w", s.Table, err)
		}
	}
	return int64(len(rows)), nil
}

// ask runs one statement and keeps its rows, which are few.
func ask(ctx context.Context, conn *pgconn.PgConn, s pg.Statement) ([][][]byte, error) {
	answer := conn.ExecParams(ctx, s.SQL, s.Params, s.OIDs, s.Formats, s.Results).Read()
	return answer.Rows, pg.Safe(answer.Err)
}

// Resists says that a row cannot be carried, whoever tries: the fleet's job sets it aside.
func Resists(err error) bool {
	return errors.Is(err, transform.ErrValue) || errors.Is(err, errAltered) || pg.ClassOf(err) == pg.ClassData
}
