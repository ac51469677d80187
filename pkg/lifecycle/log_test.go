package lifecycle_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// appendAll appends events to the log, each in a transaction of its own, and returns them as stored.
func appendAll(t *testing.T, db *testenv.DB, events ...lifecycle.Event) []lifecycle.Event {
	t.Helper()
	log := lifecycle.Log{}
	for i := range events {
		if events[i].Table == "" {
			events[i].Table, events[i].Column = table, column
		}
		err := db.InTx(t.Context(), func(tx pg.Tx) (err error) {
			events[i], err = log.Append(t.Context(), tx, events[i])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return events
}

func readHistory(t *testing.T, db *testenv.DB) (events []lifecycle.Event) {
	t.Helper()
	for e, err := range lifecycle.History(t.Context(), db, table, column) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func full() lifecycle.Event {
	return lifecycle.Event{Table: table, Column: column, Job: jobA, Range: "17", Kind: lifecycle.KindCheckpoint, Phase: lifecycle.PhaseBackfilling, Cursor: `a,"b`,
		Rows: 5, Total: 7, Skipped: 6, Detail: json.RawMessage(`{"a": 1}`), Actor: "alice", Worker: "w1", TraceID: "0af7651916cd43dd8448eb211c80319c", Epoch: 9}
}

func TestAppendKeepsEveryField(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	want := appendAll(t, db, full(), lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: jobA})
	got := readHistory(t, db)
	if len(got) != 2 {
		t.Fatalf("%d events", len(got))
	}
	for i := range got {
		if string(got[i].Detail) != string(want[i].Detail) || !got[i].At.Equal(want[i].At) {
			t.Errorf("detail %s at %s, want %s at %s", got[i].Detail, got[i].At, want[i].Detail, want[i].At)
		}
		got[i].Detail, want[i].Detail, got[i].At, want[i].At = nil, nil, time.Time{}, time.Time{}
		if lessDetail(got[i]) != lessDetail(want[i]) {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	if nulls := testenv.One[bool](t, db, `SELECT num_nulls(range_id, cursor_value, rows_processed, rows_total, details, epoch, skipped, worker, trace_id) = 9 FROM cipherfleet.events WHERE event = 'backfilled'`); !nulls {
		t.Error("what was not given is not NULL")
	}
}

// lessDetail makes an event comparable.
func lessDetail(e lifecycle.Event) [17]any {
	return [17]any{e.ID, e.Table, e.Column, e.Job, e.Range, e.Kind, e.Phase, e.Cursor, e.Rows, e.Total, e.Skipped, e.Actor, e.Worker, e.TraceID, e.Epoch}
}

func TestAppendIsPartOfTheCallersTransaction(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	failed := errors.New("the chunk failed")
	log := lifecycle.Log{}
	err := db.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := log.Append(t.Context(), tx, full()); err != nil {
			return err
		}
		if testenv.One[int](t, tx, "SELECT count(*) FROM cipherfleet.events") != 1 {
			t.Error("the transaction does not see its own event")
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if n := len(readHistory(t, db)); n != 0 {
		t.Errorf("%d events outlived their transaction", n)
	}
}

func TestAppendFillsIn(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	events := appendAll(t, db, lifecycle.Event{Kind: lifecycle.KindError}, lifecycle.Event{Kind: lifecycle.KindDualWriting}, lifecycle.Event{Kind: lifecycle.KindError},
		lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: jobA}, lifecycle.Event{Kind: lifecycle.KindCheckpoint, Job: jobA}, lifecycle.Event{Kind: lifecycle.KindJobPaused, Job: jobA},
		lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: jobA}, lifecycle.Event{Kind: lifecycle.KindVerified})
	want := []lifecycle.Phase{lifecycle.PhaseSchemaAdded, lifecycle.PhaseDualWriting, lifecycle.PhaseDualWriting, lifecycle.PhaseBackfilling, lifecycle.PhaseBackfilling,
		lifecycle.PhaseBackfilling, lifecycle.PhaseBackfilled, lifecycle.PhaseBackfilled}
	role := testenv.One[string](t, db, "SELECT session_user::text")
	for i, e := range events {
		if e.Phase != want[i] || e.Actor != role || e.ID == 0 || time.Since(e.At) > time.Hour {
			t.Errorf("event %d %s: phase %s by %q at %s, want %s by %q now", e.ID, e.Kind, e.Phase, e.Actor, e.At, want[i], role)
		}
	}
	named := lifecycle.Log{Actor: "coordinator"}
	err := db.InTx(t.Context(), func(tx pg.Tx) error {
		e, err := named.Append(t.Context(), tx, lifecycle.Event{Table: table, Column: column, Kind: lifecycle.KindError})
		if e.Actor != "coordinator" {
			t.Errorf("actor %q, want the log's", e.Actor)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAppendRefusesNonsense(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	for name, change := range map[string]func(*lifecycle.Event){
		"kind": func(e *lifecycle.Event) { e.Kind = "x" }, "phase": func(e *lifecycle.Event) { e.Phase = "x" }, "rows": func(e *lifecycle.Event) { e.Rows = -1 },
		"job": func(e *lifecycle.Event) { e.Job = "x" }, "detail": func(e *lifecycle.Event) { e.Detail = json.RawMessage("{") },
	} {
		e := full()
		change(&e)
		log := lifecycle.Log{}
		if err := db.InTx(t.Context(), func(tx pg.Tx) error { _, err := log.Append(t.Context(), tx, e); return err }); err == nil {
			t.Errorf("an event with a wrong %s got into the log", name)
		}
	}
}

// The engine sends its checkpoint in one flight with the chunk.
func TestStatementIsAppend(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	log := lifecycle.Log{}
	if err := conn.Flight(t.Context(), log.Statement(full()), log.Statement(lifecycle.Event{Table: table, Column: column, Kind: lifecycle.KindError})); err != nil {
		t.Fatal(err)
	}
	want := appendAll(t, db, full(), lifecycle.Event{Kind: lifecycle.KindError})
	got := readHistory(t, db)
	for i := range want {
		got[i].ID = want[i].ID
		if lessDetail(got[i]) != lessDetail(want[i]) || string(got[i].Detail) != string(want[i].Detail) {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
}

func TestTheMemoryIsAppendOnly(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	appendAll(t, db, full())
	c := register(t, db, usersTable(t, db))
	db.Run(t, `INSERT INTO cipherfleet.schemes VALUES ($1, 1, 1, 1, 'pk', 16, 'keep', 'readable')`, c.ID)
	db.Run(t, `INSERT INTO cipherfleet.deks (column_id, scheme, kek, wrapped, canary) VALUES ($1, 1, 'file:x', '\x01', '\x02')`, c.ID)
	for _, role := range []string{"origin", "replica"} {
		for _, sql := range []string{
			"UPDATE cipherfleet.events SET rows_processed = 1", "DELETE FROM cipherfleet.events", "TRUNCATE cipherfleet.events",
			"DELETE FROM cipherfleet.columns", "TRUNCATE cipherfleet.columns CASCADE", "UPDATE cipherfleet.columns SET id = DEFAULT",
			"DELETE FROM cipherfleet.schemes", "UPDATE cipherfleet.schemes SET padding = 0", "UPDATE cipherfleet.schemes SET suite = 2",
			"UPDATE cipherfleet.schemes SET codec = 2", "UPDATE cipherfleet.schemes SET binding = 'none'", "UPDATE cipherfleet.schemes SET nulls = 'x'",
			"DELETE FROM cipherfleet.deks", "TRUNCATE cipherfleet.deks", "UPDATE cipherfleet.deks SET column_id = 2",
		} {
			if err := runAs(t.Context(), db, role, sql); pg.Code(err) != "23001" {
				t.Errorf("as %s: %s: %v", role, sql, err)
			}
		}
	}
	db.Run(t, "UPDATE cipherfleet.schemes SET state = 'active'")
	db.Run(t, "UPDATE cipherfleet.deks SET wrapped = '\\x03'") // under another KEK
	refused := func(what, sql string) {
		if err := runAs(t.Context(), db, "replica", sql); pg.Code(err) != "23001" {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("a scheme that is written with was destroyed", "UPDATE cipherfleet.schemes SET state = 'destroyed', retired_at = now(), destroyed_at = now()")
	db.Run(t, "UPDATE cipherfleet.schemes SET state = 'retired', retired_at = now()")
	refused("a retired scheme came back", "UPDATE cipherfleet.schemes SET state = 'readable', retired_at = NULL")
	db.Run(t, "UPDATE cipherfleet.schemes SET state = 'destroyed', destroyed_at = now()")
	refused("a destroyed scheme came back", "UPDATE cipherfleet.schemes SET state = 'retired', destroyed_at = NULL")
	db.Run(t, "UPDATE cipherfleet.deks SET wrapped = NULL, destroyed_at = now()")
	refused("a destroyed key came back", "UPDATE cipherfleet.deks SET wrapped = '\\x03', destroyed_at = NULL")
	db.Run(t, "INSERT INTO cipherfleet.decryptions (column_id, reason) VALUES ($1, 'court order')", c.ID)
	refused("a decryption was forgotten", "DELETE FROM cipherfleet.decryptions")
	refused("decryptions were forgotten", "TRUNCATE cipherfleet.decryptions")
	refused("a decryption was changed", "UPDATE cipherfleet.decryptions SET reason = 'none'")
}

func runAs(ctx context.Context, db *testenv.DB, role, sql string) error {
	return db.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL session_replication_role = "+role); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql)
		return err
	})
}
