package backfill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// proofTime gives the proof the time of a read: it locks no row.
const proofTime = "SET LOCAL statement_timeout = '10s'"

// mostProofs of one chunk are taken before the proxy is given up: each but the last has found something to take back.
const mostProofs = 8

// errExposed says that something is stored that must not be. The transaction must not commit.
var errExposed = errors.New("what is stored shows its plaintext")

// proof is what is stored for a span.
type proof struct {
	covered int   // rows that were sent and are covered now
	written int64 // of these, rows that were written through the proxy
	exposed []row // rows whose target is not what it may hold, or shows its source; sent or not
}

// writeThrough is write for columns that a proxy makes: it sends, proves, and moves the cursor. What may not stay as it
// is stored is taken back, and its rows are set aside. It returns how many of the rows are dealt with.
func (w *writer) writeThrough(ctx context.Context, s span) (int64, error) {
	started, sent := time.Now(), int64(len(s.rows))
	var told []int64
	if sent > 0 {
		var err error
		if told, err = w.send(ctx, s); err != nil {
			return 0, err
		}
	}
	for range mostProofs {
		points, found, err := w.proveAndPass(ctx, s, told)
		switch {
		case err == nil:
			points.Took = time.Since(started)
			w.skipped, w.alone = 0, 0
			if sent > 0 {
				w.size.wrote(int(sent), points.Took)
			}
			w.report(points)
			return sent - points.Conflicts, nil
		case !errors.Is(err, errExposed):
			return 0, err
		}
		if err := w.takeBack(ctx, found.exposed); err != nil {
			return 0, err
		}
		s, told = w.without(s, told)
	}
	return 0, fmt.Errorf("prove a chunk of %s: %w", w.shape.Table, transform.ErrLeak)
}

// proveAndPass proves a span and moves the cursor behind it, unless a row of it was not written.
func (w *writer) proveAndPass(ctx context.Context, s span, told []int64) (points Checkpoint, found proof, err error) {
	err = w.transact(ctx, func(pg.Tx) (_ keyspace.Key, err error) {
		if found, err = w.prove(ctx, s, told); err != nil {
			return nil, err
		}
		if len(found.exposed) > 0 {
			return nil, errExposed
		}
		points = Checkpoint{Rows: found.written + w.alone, Skipped: w.skipped, Conflicts: int64(len(s.rows) - found.covered)}
		to := keyspace.Bound{}
		if points.Conflicts == 0 {
			to, points.Done = s.last, s.end
		}
		return w.advance(ctx, progress{to: to, points: points})
	})
	return points, found, err
}

// prove looks at every row of the span, sent or not: also at those that somebody wrote who died before the proof.
func (w *writer) prove(ctx context.Context, s span, told []int64) (found proof, err error) {
	at := make(map[string]int, len(s.rows))
	for i, r := range s.rows {
		at[r.id()] = i
	}
	print := ""
	statement := w.proofStatement(s)
	statement.Row = func(wire [][]byte) error {
		r := row{}
		for _, part := range wire[:len(w.shape.Key)] {
			r.key = append(r.key, keepNull(part))
		}
		copy(r.xmin[:], wire[len(w.shape.Key)])
		outcome, err := w.shape.JudgeAll(wire[len(w.shape.Key)+1:])
		if i, was := at[r.id()]; err == nil && was && outcome == shape.Covered {
			found.covered++
			found.written += min(told[i], 1)
		}
		if outcome == shape.Broken {
			found.exposed = append(found.exposed, r)
		}
		return err
	}
	err = w.conn.Flight(ctx, pg.Statement{SQL: w.settings, Keep: true}, pg.Statement{SQL: commitMode(s.end)}, pg.Statement{SQL: proofTime}, statement, w.fingerprint(&print))
	if err != nil {
		return found, fmt.Errorf("prove a chunk of %s: %w", w.shape.Table, err)
	}
	if print != w.shape.Fingerprint {
		return found, keyspace.ErrChanged
	}
	return found, nil
}

func (w *writer) proofStatement(s span) pg.Statement {
	statement := pg.Statement{SQL: w.shape.ProofSQL(!s.after.Open(), !s.last.Open()), Results: w.shape.ProofFormats()}
	w.shape.Bind(&statement, s.after)
	w.shape.Bind(&statement, s.last)
	return statement
}

// takeBack clears what is stored for these rows, whoever holds the range by now, and then sets them aside. One that
// somebody changed meanwhile is proved again.
func (w *writer) takeBack(ctx context.Context, exposed []row) error {
	var taken []row
	for _, r := range exposed {
		cleared, err := w.clear(ctx, r)
		if err != nil {
			return fmt.Errorf("take back what the proxy had stored in %s: %w", w.shape.Table, err)
		}
		if cleared {
			taken = append(taken, r)
		}
	}
	for _, r := range taken {
		w.history(r.id()).exposed = true
		if err := w.quarantine(ctx, r, reasonExposed); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) clear(ctx context.Context, r row) (bool, error) {
	var cleared int64
	statement := pg.Statement{SQL: w.shape.TakeBackSQL(), Affected: &cleared}
	w.shape.Bind(&statement, keyspace.Bound{Parts: r.key})
	statement.Add(r.xmin[:], pgtype.XIDOID, 1)
	err := w.conn.Flight(ctx, pg.Statement{SQL: beginSQL}, pg.Statement{SQL: w.settings, Keep: true}, pg.Statement{SQL: pg.Durable}, statement, pg.Statement{SQL: "COMMIT"})
	if err != nil {
		_, _ = w.conn.Exec(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return cleared == 1, err
}

// without is the span without the rows that were set aside.
func (w *writer) without(s span, told []int64) (span, []int64) {
	var keep []int
	for i, r := range s.rows {
		if !w.history(r.id()).exposed {
			keep = append(keep, i)
		}
	}
	left := make([]int64, len(keep))
	for n, i := range keep {
		left[n] = told[i]
	}
	return s.subset(keep), left
}
