package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const eventColumns = `e.id, e.table_name, e.column_name, coalesce(e.job_id::text, ''), coalesce(e.range_id::text, ''), e.event, e.phase,
 coalesce(e.cursor_value, ''), coalesce(e.rows_processed, 0), coalesce(e.rows_total, 0), coalesce(e.skipped, 0), e.details,
 e.actor, coalesce(e.worker, ''), coalesce(e.trace_id, ''), coalesce(e.epoch, 0), e.created_at`

func scanEvent(row pgx.CollectableRow) (e Event, err error) {
	err = row.Scan(&e.ID, &e.Table, &e.Column, &e.Job, &e.Range, &e.Kind, &e.Phase, &e.Cursor, &e.Rows, &e.Total, &e.Skipped,
		&e.Detail, &e.Actor, &e.Worker, &e.TraceID, &e.Epoch, &e.At)
	return e, err
}

const historySQL = `SELECT ` + eventColumns + ` FROM cipherfleet.events e WHERE e.table_name = $1 AND e.column_name = $2 ORDER BY e.id`

// History yields every event of a column in the order of ids, as of now. After an error nothing follows.
func History(ctx context.Context, q pg.Querier, table, column string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		rows, err := q.Query(ctx, historySQL, table, column)
		if err != nil {
			yield(Event{}, fmt.Errorf("read history: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			e, err := scanEvent(rows)
			if err != nil {
				yield(Event{}, fmt.Errorf("read history: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(Event{}, fmt.Errorf("read history: %w", err))
		}
	}
}

// latestSQL is the history with the checkpoints of the last job added up to one: it folds to the same state.
const latestSQL = `SELECT ` + eventColumns + ` FROM cipherfleet.events e
 WHERE e.table_name = $1 AND e.column_name = $2 AND e.event <> 'backfill_checkpoint'
UNION ALL
SELECT max(c.id), $1, $2, coalesce(c.job_id::text, ''), '', 'backfill_checkpoint', 'backfilling',
 coalesce((SELECT l.cursor_value FROM cipherfleet.events l WHERE l.id = max(c.id)), ''), sum(c.rows_processed)::bigint, 0::bigint,
 sum(c.skipped)::bigint, NULL::jsonb, '', '', '', 0::bigint, (SELECT l.created_at FROM cipherfleet.events l WHERE l.id = max(c.id))
 FROM cipherfleet.events c WHERE c.table_name = $1 AND c.column_name = $2 AND c.event = 'backfill_checkpoint'
 AND c.job_id IS NOT DISTINCT FROM (SELECT s.job_id FROM cipherfleet.events s
  WHERE s.table_name = $1 AND s.column_name = $2 AND s.event = 'backfill_started' ORDER BY s.id DESC LIMIT 1)
 GROUP BY c.job_id`

// Latest is what the history of a column folds to, as of now; the zero State if nothing happened. An impossible event
// in the log is an [ErrImpossible], beside the state without it.
func Latest(ctx context.Context, q pg.Querier, table, column string) (State, error) {
	rows, err := q.Query(ctx, latestSQL, table, column)
	if err != nil {
		return State{}, fmt.Errorf("read the latest events: %w", err)
	}
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return State{}, fmt.Errorf("read the latest events: %w", pg.Safe(err))
	}
	return foldLatest(events)
}

// foldLatest folds what latestSQL says.
func foldLatest(events []Event) (State, error) {
	sums := slices.IndexFunc(events, func(e Event) bool { return e.Kind == KindCheckpoint })
	if sums < 0 {
		return Fold(events)
	}
	state, err := Fold(slices.Delete(slices.Clone(events), sums, sums+1))
	return state.withSums(events[sums]), err
}

// withSums puts all checkpoints of the run's job in at once; e is their sum, with the id of the last.
func (s State) withSums(e Event) State {
	if s.Run.Job != e.Job {
		return s
	}
	s.Run.Rows, s.Run.Skipped, s.Run.Cursor = e.Rows, e.Skipped, e.Cursor
	if e.ID > s.Last {
		s.Last, s.At = e.ID, e.At
		if s.Run.State == RunStopped {
			s.Run.State = RunOpen
		}
	}
	return s
}

// Totals is how far the last job of a column is.
type Totals struct {
	Job           string
	Rows, Skipped int64 // sums over its checkpoints
	Total         int64 // estimate, of its last start
	Checkpoints   int64
	Quarantined   int64     // events
	Started, Last time.Time // first start, last checkpoint; Last is zero before the first
}

const progressSQL = `SELECT coalesce(e.job_id::text, ''), coalesce(sum(e.rows_processed) FILTER (WHERE e.event = 'backfill_checkpoint'), 0)::bigint,
 coalesce(sum(e.skipped) FILTER (WHERE e.event = 'backfill_checkpoint'), 0)::bigint,
 coalesce((array_agg(e.rows_total ORDER BY e.id DESC) FILTER (WHERE e.event = 'backfill_started'))[1], 0),
 count(*) FILTER (WHERE e.event = 'backfill_checkpoint'), count(*) FILTER (WHERE e.event = 'row_quarantined'),
 min(e.created_at) FILTER (WHERE e.event = 'backfill_started'), max(e.created_at) FILTER (WHERE e.event = 'backfill_checkpoint')
 FROM cipherfleet.events e WHERE e.table_name = $1 AND e.column_name = $2
 AND e.job_id IS NOT DISTINCT FROM (SELECT s.job_id FROM cipherfleet.events s
  WHERE s.table_name = $1 AND s.column_name = $2 AND s.event = 'backfill_started' ORDER BY s.id DESC LIMIT 1)
 GROUP BY e.job_id HAVING bool_or(e.event = 'backfill_started')`

// Progress adds up what the last job of a column did; the zero Totals if there was none.
func Progress(ctx context.Context, q pg.Querier, table, column string) (p Totals, err error) {
	var last *time.Time
	err = q.QueryRow(ctx, progressSQL, table, column).Scan(&p.Job, &p.Rows, &p.Skipped, &p.Total, &p.Checkpoints, &p.Quarantined, &p.Started, &last)
	if errors.Is(err, pgx.ErrNoRows) {
		return Totals{}, nil
	}
	if last != nil {
		p.Last = *last
	}
	return p, wrap("read progress", err)
}
