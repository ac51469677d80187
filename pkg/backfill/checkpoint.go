package backfill

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Checkpoint is what one committed chunk left behind.
type Checkpoint struct {
	Rows      int64 // rows written
	Skipped   int64 // rows left for a later pass, because somebody holds them
	Conflicts int64 // rows that must be read again, because the application wrote first
	Done      bool  // the range is closed
	Took      time.Duration
}

// progress is one step of a claim's cursor.
type progress struct {
	to     keyspace.Bound // nil: the cursor stays
	points Checkpoint
}

// advanceSQL moves the cursor only if it is still the one this claim left there. $1 id, $2 epoch, $3 owner,
// $4 the cursor as known, $5 lease in seconds, $6 rows, $7 skipped, $8 conflicts, $9 done; the verbs are the new
// cursor and the elements of it to return.
const advanceSQL = `UPDATE cipherfleet.ranges r
   SET cursor_key = %s,
       lease_until = CASE WHEN $9::pg_catalog.bool THEN NULL ELSE pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $5::pg_catalog.float8) END,
       rows = r.rows OPERATOR(pg_catalog.+) $6::pg_catalog.int8, skipped = r.skipped OPERATOR(pg_catalog.+) $7::pg_catalog.int8,
       conflicts = r.conflicts OPERATOR(pg_catalog.+) $8::pg_catalog.int8,
       state = CASE WHEN $9::pg_catalog.bool THEN 'done' ELSE r.state END
  FROM cipherfleet.jobs j
 WHERE r.id OPERATOR(pg_catalog.=) $1::pg_catalog.int8 AND r.epoch OPERATOR(pg_catalog.=) $2::pg_catalog.int8
   AND r.owner OPERATOR(pg_catalog.=) $3::pg_catalog.uuid AND r.state OPERATOR(pg_catalog.=) 'pending'
   AND (r.cursor_key OPERATOR(pg_catalog.=) $4::pg_catalog.text[] OR r.cursor_key IS NULL AND $4::pg_catalog.text[] IS NULL)
   AND j.id OPERATOR(pg_catalog.=) r.job_id AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'sweeping', 'watching']::pg_catalog.text[])
RETURNING %s`

// advance moves the cursor and writes the checkpoint inside the chunk's transaction; [work.ErrLost] if the range is not ours.
// It returns the new cursor, which holds once the transaction is committed.
func (w *writer) advance(ctx context.Context, p progress) (keyspace.Key, error) {
	statement := w.advanceStatement(p)
	var cursor keyspace.Key
	ours := false
	statement.Row = func(wire [][]byte) error {
		ours = true
		for _, part := range wire {
			if part != nil {
				cursor = append(cursor, string(part))
			}
		}
		return nil
	}
	if err := w.conn.Flight(ctx, statement); err != nil {
		return nil, fmt.Errorf("advance range %d: %w", w.claim.ID, err)
	}
	if !ours {
		return nil, fmt.Errorf("advance range %d: %w", w.claim.ID, work.ErrLost)
	}
	var more []pg.Statement
	if p.points.Rows > 0 || p.points.Skipped > 0 {
		more = w.checkpoints(ctx, cursor, p.points)
	}
	if p.points.Done {
		more = append(more, pg.Statement{SQL: "NOTIFY " + work.Channel})
	}
	if len(more) == 0 {
		return cursor, nil
	}
	if err := w.conn.Flight(ctx, more...); err != nil {
		return nil, fmt.Errorf("append the checkpoint of range %d: %w", w.claim.ID, err)
	}
	return cursor, nil
}

func (w *writer) advanceStatement(p progress) pg.Statement {
	s := pg.Statement{Keep: true}
	for _, text := range []string{strconv.FormatInt(w.claim.ID, 10), strconv.FormatInt(w.claim.Epoch, 10), w.claim.Owner.String()} {
		s.AddText(text)
	}
	s.Add(textArray(w.claim.Cursor), 0, 0)
	s.AddText(strconv.FormatFloat(w.lease.Seconds(), 'f', 3, 64))
	for _, n := range []int64{p.points.Rows, p.points.Skipped, p.points.Conflicts} {
		s.AddText(strconv.FormatInt(n, 10))
	}
	s.AddText(strconv.FormatBool(p.points.Done))
	elements := make([]string, len(w.shape.Key))
	for i := range elements {
		elements[i] = fmt.Sprintf("r.cursor_key[%d]", i+1)
	}
	s.SQL = fmt.Sprintf(advanceSQL, w.bindCursor(&s, p.to), strings.Join(elements, ", "))
	return s
}

// bindCursor is SQL for the new cursor: as it is, from text, or from wire values through their types' output
// functions (format, because a cast to text is not always the output form).
func (w *writer) bindCursor(s *pg.Statement, to keyspace.Bound) string {
	if to.Open() {
		return "r.cursor_key"
	}
	parts := make([]string, len(to.Parts))
	for i, k := range w.shape.Key {
		if to.AsText {
			s.Add(to.Parts[i], pgtype.TextOID, 0)
			parts[i] = fmt.Sprintf("$%d", len(s.Params))
			continue
		}
		s.Add(to.Parts[i], k.OID, k.Format())
		parts[i] = fmt.Sprintf("pg_catalog.format('%%s', $%d)", len(s.Params))
	}
	return "ARRAY[" + strings.Join(parts, ", ") + "]::pg_catalog.text[]"
}

func textArray(k keyspace.Key) []byte {
	if k == nil {
		return nil
	}
	var a array
	a.reset(pgtype.TextOID, false)
	for _, part := range k {
		a.add([]byte(part))
	}
	return a.bytes()
}

// checkpoints are the events of a chunk, one per column.
func (w *writer) checkpoints(ctx context.Context, cursor keyspace.Key, points Checkpoint) []pg.Statement {
	statements := make([]pg.Statement, len(w.columns))
	for i, event := range w.columns {
		event.Kind, event.Phase = lifecycle.KindCheckpoint, cmp.Or(event.Phase, lifecycle.PhaseBackfilling)
		event.Rows, event.Skipped, event.Cursor = points.Rows, points.Skipped, cursorText(cursor)
		event.Epoch, event.TraceID = w.claim.Epoch, work.TraceID(ctx)
		statements[i] = w.log.Statement(event)
	}
	return statements
}

// cursorText is the cursor as the event log shows it: the elements, comma-separated, quoted where they need it.
func cursorText(k keyspace.Key) string {
	parts := make([]string, len(k))
	for i, part := range k {
		parts[i] = part
		if strings.ContainsAny(part, `,"`) || len(k) > 1 && part == "" {
			parts[i] = `"` + strings.ReplaceAll(part, `"`, `""`) + `"`
		}
	}
	return strings.Join(parts, ",")
}
