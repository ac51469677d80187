package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// HistoryRequest says whose history is wanted, and how much of it.
type HistoryRequest struct {
	standing.Name
	Since       time.Time // leaves out what is older; zero: nothing
	Limit       int       // entries, the newest; 0: all
	Checkpoints bool      // each on its own, instead of summed up between other events
	Keys        bool      // also what may hold keys: cursors
}

// History is what happened to one column, the oldest first.
type History struct {
	V      int     `json:"v"`
	Table  string  `json:"table"` // the names it was registered under: they are what the log knows it by
	Column string  `json:"column"`
	Events []Entry `json:"events"`
}

// Entry is one event, or checkpoints with nothing else between them as one, and so rows that were set aside: the two
// stand side by side where both come.
type Entry struct {
	ID          int64           `json:"id"`
	At          time.Time       `json:"at"`
	Kind        lifecycle.Kind  `json:"event"`
	Phase       lifecycle.Phase `json:"phase"` // after it
	Rows        int64           `json:"rows,omitempty"`
	Skipped     int64           `json:"skipped,omitempty"`
	Total       int64           `json:"total,omitempty"`
	Checkpoints int             `json:"checkpoints,omitempty"` // that this entry sums up
	Quarantined int             `json:"quarantined,omitempty"` // rows set aside that this entry sums up
	Until       *time.Time      `json:"until,omitempty"`       // when the last of them was
	Job         string          `json:"job,omitempty"`
	Range       string          `json:"range,omitempty"`
	Epoch       int64           `json:"epoch,omitempty"`
	Cursor      string          `json:"cursor,omitempty"` // a key: data
	Actor       string          `json:"actor"`
	Worker      string          `json:"worker,omitempty"`
	TraceID     string          `json:"trace_id,omitempty"`
	Detail      json.RawMessage `json:"detail,omitempty"`
}

const historyTime = "5min" // of one reading, however long the log

// ReadHistory reads the log of a column that was ever registered, also of one that is dropped or whose table is gone.
// It needs the right to read the tables of schema cipherfleet and nothing else. With a limit its memory does not grow
// with the log.
func ReadHistory(ctx context.Context, db *pg.DB, r HistoryRequest) (History, error) {
	h := History{V: messages.Version, Events: []Entry{}}
	err := standing.Reading(ctx, db, historyTime, func(tx pg.Tx) error {
		if err := standing.CheckInstalled(ctx, tx); err != nil {
			return err
		}
		table, column, err := loggedName(ctx, tx, r.Name)
		if err != nil {
			return err
		}
		h.Table, h.Column = table.String(), column
		return h.read(ctx, tx, r)
	})
	if err != nil {
		return History{}, err
	}
	return h, nil
}

// loggedSQL prefers a column of today to one that was retired, and today's table name to an old one.
const loggedSQL = `SELECT c.schema_name, c.table_name, c.source FROM cipherfleet.columns c
  LEFT JOIN pg_catalog.pg_class t ON t.oid = c.relid LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.relid AND a.attnum = c.source_attnum AND NOT a.attisdropped
 WHERE (n.nspname = $1 AND t.relname = $2 OR c.schema_name = $1 AND c.table_name = $2) AND (c.source = $3 OR a.attname = $3)
 ORDER BY c.retired_at IS NOT NULL, (n.nspname = $1 AND t.relname = $2) IS NOT TRUE, c.source <> $3, c.id DESC LIMIT 1`

// loggedName is how the log names a column: by the names of its registration, whatever has become of it since.
func loggedName(ctx context.Context, q pg.Querier, n standing.Name) (table pg.Table, column string, err error) {
	err = q.QueryRow(ctx, loggedSQL, n.Schema, n.Table, n.Column).Scan(&table.Schema, &table.Name, &column)
	if errors.Is(err, pgx.ErrNoRows) {
		return table, "", standing.Lack("column", "cipherfleet status lists the columns; a table in another schema than public is named with it", "no column %q of %s.%s was ever registered",
			n.Column, n.Schema, n.Table)
	}
	if err != nil {
		return table, "", fmt.Errorf("find the column: %w", err)
	}
	return table, column, nil
}

func (h *History) read(ctx context.Context, q pg.Querier, r HistoryRequest) error {
	for e, err := range lifecycle.History(ctx, q, h.Table, h.Column) {
		if err != nil {
			return err
		}
		if e.At.Before(r.Since) {
			continue
		}
		h.add(e, r)
	}
	if r.Limit > 0 && len(h.Events) > r.Limit {
		h.Events = h.Events[len(h.Events)-r.Limit:]
	}
	return nil
}

// add appends an event, or counts a checkpoint in with those before it. Now and then it forgets what the limit will.
func (h *History) add(e lifecycle.Event, r HistoryRequest) {
	if !r.Checkpoints && h.summed(e) {
		return
	}
	if n := len(h.Events); r.Limit > 0 && n >= 2*r.Limit {
		h.Events = append(h.Events[:0], h.Events[n-r.Limit:]...)
	}
	entry := Entry{ID: e.ID, At: e.At, Kind: e.Kind, Phase: e.Phase, Rows: e.Rows, Skipped: e.Skipped, Total: e.Total, Job: e.Job, Range: e.Range,
		Epoch: e.Epoch, Actor: e.Actor, Worker: e.Worker, TraceID: e.TraceID, Detail: e.Detail}
	if r.Keys {
		entry.Cursor = e.Cursor
	}
	if e.Kind == lifecycle.KindCheckpoint && !r.Checkpoints {
		entry.Checkpoints, entry.Cursor = 1, ""
	}
	if e.Kind == lifecycle.KindRowQuarantined && !r.Checkpoints {
		entry.Quarantined = 1
	}
	h.Events = append(h.Events, entry)
}

// summed counts a checkpoint, or a row that was set aside, in with those before it, if there are any.
func (h *History) summed(e lifecycle.Event) bool {
	for i := len(h.Events) - 1; i >= max(0, len(h.Events)-2); i-- {
		x := &h.Events[i]
		if x.Checkpoints+x.Quarantined == 0 || x.Job != e.Job || x.Phase != e.Phase {
			return false
		}
		if x.Kind == e.Kind {
			x.count(e)
			return true
		}
	}
	return false
}

// count adds one. What differs among them is left out.
func (x *Entry) count(e lifecycle.Event) {
	x.Rows, x.Skipped, x.Until = x.Rows+e.Rows, x.Skipped+e.Skipped, &e.At
	if x.Kind == lifecycle.KindCheckpoint {
		x.Checkpoints++
	} else {
		x.Quarantined++
		x.Detail = nil
	}
	for _, field := range []struct {
		have *string
		now  string
	}{{&x.Range, e.Range}, {&x.Worker, e.Worker}, {&x.TraceID, e.TraceID}, {&x.Actor, e.Actor}} {
		if *field.have != field.now {
			*field.have = ""
		}
	}
	if x.Epoch != e.Epoch {
		x.Epoch = 0
	}
}
