package lifecycle

import (
	"encoding/json"
	"slices"
	"time"
)

// Phase is where a column stands. The zero Phase is that of a column nothing has happened to.
type Phase string

// The phases, in their order.
const (
	PhaseSchemaAdded Phase = "schema-added" // the target column exists
	PhaseDualWriting Phase = "dual-writing" // writes that miss the target are noticed
	PhaseBackfilling Phase = "backfilling"  // a run is, or has been, at work
	PhaseBackfilled  Phase = "backfilled"   // a sweep left nothing uncovered
	PhaseCutOver     Phase = "cut-over"     // the target has taken the source's name
	PhaseDropped     Phase = "dropped"      // the plaintext is gone
)

// Known says whether p is one of the six phases.
func (p Phase) Known() bool { return p.Rung() > 0 }

// Rung is how far up the ladder a phase is: 0 for a column to which nothing has happened, -1 for what is no phase.
func (p Phase) Rung() int {
	return slices.Index([]Phase{"", PhaseSchemaAdded, PhaseDualWriting, PhaseBackfilling, PhaseBackfilled, PhaseCutOver, PhaseDropped}, p)
}

// Kind says what happened.
type Kind string

// The kinds of event, as stored in cipherfleet.events.event.
const (
	KindSchemaAdded     Kind = "schema_added"        // target column and registry entry exist
	KindDualWriting     Kind = "dual_writing"        // the capture trigger is in place
	KindBackfillStarted Kind = "backfill_started"    // a job began, or began again; Total is the estimate
	KindCheckpoint      Kind = "backfill_checkpoint" // one chunk; Rows and Skipped are its own, not running totals
	KindBackfilled      Kind = "backfilled"          // the run is over, and proved that nothing is left
	KindCutOver         Kind = "cut_over"
	KindDropped         Kind = "dropped"
	KindError           Kind = "error" // without a range: the run stopped
	KindRangeSplit      Kind = "range_split"
	KindRowQuarantined  Kind = "row_quarantined"
	KindJobPaused       Kind = "job_paused"
	KindJobResumed      Kind = "job_resumed"
	KindJobCancelled    Kind = "job_cancelled"
	KindVerified        Kind = "verified"    // every row was opened and compared
	KindRolledBack      Kind = "rolled_back" // a cut-over was taken back, or what was prepared before it
	KindAdvanced        Kind = "advanced"    // an operator moved the column to a phase against the order, with a reason
	KindDropPlanned     Kind = "drop_planned"
	KindCleaned         Kind = "cleaned"        // plaintext that had outlived its column was removed
	KindSchemeChanged   Kind = "scheme_changed" // a scheme of the column came, or went to another state
)

// Event is one row of the log: what happened to one column. Cursor may hold keys: it stays in Postgres.
type Event struct {
	ID            int64  // given by the log; 0 before
	Table, Column string // schema.table and the source column, by the names they were registered under
	Job, Range    string // a UUID and a number, or ""
	Kind          Kind
	Phase         Phase // the phase after the event; left empty, Append works it out
	Cursor        string
	Rows          int64 // rows written by the transaction of this event
	Total         int64 // rows the job expects to see
	Skipped       int64 // rows seen and left as they were
	Detail        json.RawMessage
	Actor         string // who asked; left empty, the database role
	Worker        string
	TraceID       string
	Epoch         int64
	At            time.Time // the server's clock
}
