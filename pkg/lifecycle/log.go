package lifecycle

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Log appends to cipherfleet.events. The zero Log works.
type Log struct {
	Actor string // stands in for events that name no actor; empty: the database role
}

// appendSQL takes every parameter as text, so that it can also travel in a raw flight. The transaction gets its id
// before the event gets its own: readers rely on that order (see Since).
const appendSQL = `INSERT INTO cipherfleet.events AS e (table_name, column_name, event, phase, cursor_value, rows_processed, rows_total,
 details, job_id, range_id, epoch, skipped, worker, actor, trace_id)
SELECT $1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text, coalesce($4::pg_catalog.text, (SELECT p.phase FROM cipherfleet.events p
   WHERE p.table_name OPERATOR(pg_catalog.=) $1::pg_catalog.text AND p.column_name OPERATOR(pg_catalog.=) $2::pg_catalog.text ORDER BY p.id DESC LIMIT 1), 'schema-added'),
 $5::pg_catalog.text, $6::pg_catalog.text::pg_catalog.int8, $7::pg_catalog.text::pg_catalog.int8, $8::pg_catalog.text::pg_catalog.jsonb,
 $9::pg_catalog.text::pg_catalog.uuid, $10::pg_catalog.text::pg_catalog.int8, $11::pg_catalog.text::pg_catalog.int8,
 $12::pg_catalog.text::pg_catalog.int8, $13::pg_catalog.text, coalesce($14::pg_catalog.text, session_user::pg_catalog.text), $15::pg_catalog.text
WHERE pg_catalog.pg_current_xact_id() IS NOT NULL
RETURNING e.id, e.phase, e.actor, e.created_at`

// Append writes one event inside the caller's transaction and returns it with its id, phase, actor and time. It exists
// exactly if that transaction commits. An event without phase keeps the column's present one, or gets its kind's.
func (l *Log) Append(ctx context.Context, tx pgx.Tx, e Event) (Event, error) {
	e.Actor = firstOf(e.Actor, l.Actor)
	fields := e.fields()
	args := make([]any, len(fields))
	for i, field := range fields {
		args[i] = field
	}
	if err := tx.QueryRow(ctx, appendSQL, args...).Scan(&e.ID, &e.Phase, &e.Actor, &e.At); err != nil {
		return e, fmt.Errorf("append event %s: %w", e.Kind, pg.Safe(err))
	}
	if !e.moves() {
		return e, nil
	}
	_, err := tx.Exec(ctx, "SELECT pg_catalog.pg_notify($1, '')", Channel)
	return e, wrap("tell of the event", pg.Safe(err))
}

// moves says that the column may stand elsewhere after the event: who reads and writes it is told, as of a new revision.
func (e Event) moves() bool {
	to, _ := ladder(e.Kind)
	return to != "" || e.Kind == KindAdvanced
}

// Statement is the same for a raw flight ([pg.Conn.Flight]), where the caller's transaction is open. Its rows are not read.
func (l *Log) Statement(e Event) pg.Statement {
	e.Actor = firstOf(e.Actor, l.Actor)
	fields := e.fields()
	s := pg.Statement{SQL: appendSQL, Keep: true, Params: make([][]byte, len(fields)), OIDs: make([]uint32, len(fields)), Formats: make([]int16, len(fields))}
	for i, field := range fields {
		if s.OIDs[i] = 25; field != nil { // text
			s.Params[i] = []byte(*field)
		}
	}
	return s
}

// fields are the parameters of appendSQL; nil is NULL.
func (e Event) fields() []*string {
	phase := string(e.Phase)
	if to, _ := ladder(e.Kind); phase == "" {
		phase = string(to)
	}
	text, number := orNull, countOrNull
	if e.Kind == KindCheckpoint {
		number = count
		phase = firstOf(phase, string(PhaseBackfilling))
	}
	return []*string{&e.Table, &e.Column, text(string(e.Kind)), text(phase), text(e.Cursor), number(e.Rows), countOrNull(e.Total),
		text(string(e.Detail)), text(e.Job), text(e.Range), countOrNull(e.Epoch), number(e.Skipped), text(e.Worker), text(e.Actor), text(e.TraceID)}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func count(n int64) *string {
	s := strconv.FormatInt(n, 10)
	return &s
}

func countOrNull(n int64) *string {
	if n == 0 {
		return nil
	}
	return count(n)
}
