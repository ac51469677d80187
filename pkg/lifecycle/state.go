package lifecycle

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// ErrImpossible marks an event that cannot follow what happened before it.
var ErrImpossible = errors.New("impossible event")

// State is what the events of one column fold to. The zero State is a column nothing has happened to.
type State struct {
	Table, Column string
	Phase         Phase
	Run           Run       // the present run, or the last one
	Backfilled    time.Time // since when a full verification may prove it, see [State.Sound]; zero while none can
	Verified      time.Time // of the last full decrypt-and-compare; zero if none, or if something since took it away, see [State.Sound]
	VerifiedFrom  time.Time // when it began: what it read is of then, or later
	Proven        bool      // it found every row covered
	NoneWrong     bool      // it found no cell that is wrong; rows may have been without one
	Watched       time.Time // since when writes that miss the target are noticed, as far as the log tells; zero if they never were
	Uncompared    bool      // cells may be there from before, see [State.rewatched]
	Unnoticed     bool      // and so nobody has on record who missed them then
	Withdrawn     bool      // a rollback dropped the target
	Last          int64     // id of the last event folded; older ones change nothing any more
	At            time.Time // when it happened
}

// RunState says how a run goes.
type RunState string

// The states of a run. The zero RunState is that of a column that never had one.
const (
	RunOpen      RunState = "running"
	RunPaused    RunState = "paused"
	RunStopped   RunState = "stopped" // by an error; a checkpoint, a resume or a start opens it again
	RunCancelled RunState = "cancelled"
	RunDone      RunState = "done"
)

// Run is what one job did to a column. A job that starts again goes on counting.
type Run struct {
	Job         string
	State       RunState
	Rows        int64 // written by all its chunks
	Skipped     int64
	Total       int64 // estimate, of the last start
	Quarantined int64 // events, not rows that are still quarantined
	Cursor      string
	Started     time.Time
	Ended       time.Time // of backfilled or cancelled; zero while it goes
	Existing    bool      // it compares also the cells that were there when it began
}

// Live says whether checkpoints may still come.
func (r Run) Live() bool {
	return r.State == RunOpen || r.State == RunPaused || r.State == RunStopped
}

// Apply folds one event in. It is pure and total: an event that cannot follow is an [ErrImpossible] and leaves the state
// as it is; one that was folded already, or is older than one that was, changes nothing.
func (s State) Apply(e Event) (State, error) {
	if e.ID > 0 && e.ID <= s.Last {
		return s, nil
	}
	if err := s.admits(e); err != nil {
		return s, err
	}
	next, reason := s.step(e)
	if reason != "" {
		return s, impossible(e, s, reason)
	}
	next.Table, next.Column, next.Last, next.At = e.Table, e.Column, e.ID, e.At
	return next, nil
}

// Fold applies events in the order of their ids. What cannot follow is left out, and the first such event reported.
func (s State) Fold(events []Event) (State, error) {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b Event) int { return cmp.Compare(a.ID, b.ID) })
	var first error
	for _, e := range sorted {
		next, err := s.Apply(e)
		if err != nil && first == nil {
			first = err
		}
		s = next
	}
	return s, first
}

// Fold is the state that a whole history amounts to.
func Fold(events []Event) (State, error) { return State{}.Fold(events) }

func impossible(e Event, s State, reason string) error {
	phase := string(s.Phase)
	if phase == "" {
		phase = "the beginning"
	}
	return fmt.Errorf("apply event %d (%.40q) after %s: %w: %s", e.ID, e.Kind, phase, ErrImpossible, reason)
}

// admits checks what holds for every kind.
func (s State) admits(e Event) error {
	switch {
	case e.ID <= 0:
		return impossible(e, s, "it has no id, so it is not of the log")
	case e.Table == "" || e.Column == "":
		return impossible(e, s, "it names no column")
	case s.Last > 0 && (e.Table != s.Table || e.Column != s.Column):
		return impossible(e, s, "it is of another column")
	case e.Rows < 0 || e.Total < 0 || e.Skipped < 0:
		return impossible(e, s, "it counts below zero")
	case !e.Phase.Known():
		return impossible(e, s, "its phase is unknown")
	}
	return nil
}

// step is the state after e, or the reason why e cannot happen.
func (s State) step(e Event) (State, string) {
	switch e.Kind {
	case KindSchemaAdded, KindDualWriting, KindCutOver, KindRolledBack, KindDropped, KindAdvanced:
		return s.move(e)
	case KindDropPlanned, KindCleaned:
		return s, reasonIf(s.Phase == "", "nothing has happened to the column")
	case KindBackfillStarted:
		return s.start(e)
	case KindCheckpoint, KindBackfilled, KindRangeSplit, KindRowQuarantined, KindJobPaused, KindJobResumed, KindJobCancelled:
		return s.run(e)
	case KindVerified:
		return s.verify(e)
	case KindSchemeChanged:
		return s, ""
	case KindError:
		if e.Range == "" && e.Job == s.Run.Job && s.Run.Live() {
			s.Run.State = RunStopped
		}
		return s, ""
	}
	return s, "its kind is unknown"
}

// ladder is where a kind leads, and from where. A step may always be repeated.
func ladder(k Kind) (to Phase, from []Phase) {
	switch k {
	case KindSchemaAdded:
		return PhaseSchemaAdded, []Phase{"", PhaseSchemaAdded, PhaseDropped}
	case KindDualWriting:
		return PhaseDualWriting, []Phase{"", PhaseSchemaAdded, PhaseDualWriting, PhaseBackfilling, PhaseBackfilled}
	case KindBackfillStarted:
		return PhaseBackfilling, []Phase{PhaseDualWriting, PhaseBackfilling, PhaseBackfilled}
	case KindBackfilled:
		return PhaseBackfilled, []Phase{PhaseBackfilling}
	case KindCutOver:
		return PhaseCutOver, []Phase{PhaseBackfilled, PhaseCutOver}
	case KindRolledBack: // else see undone
		return PhaseBackfilled, []Phase{PhaseCutOver}
	case KindDropped:
		return PhaseDropped, []Phase{PhaseCutOver, PhaseDropped}
	}
	return "", nil
}

// climb takes the column to the phase its event leads to.
func (s State) climb(e Event) (State, string) {
	to, from := ladder(e.Kind)
	switch {
	case !slices.Contains(from, s.Phase):
		return s, "the column is not ready for it"
	case e.Phase != to:
		return s, "its phase does not fit its kind"
	}
	s.Phase = to
	return s, ""
}

// move takes the column to another phase outside of any run.
func (s State) move(e Event) (State, string) {
	if s.Run.State == RunOpen || s.Run.State == RunPaused {
		return s, "a run is at work"
	}
	switch {
	case e.Kind == KindDualWriting:
		s = s.unproven(e).rewatched(e) // capture was made, or made anew: until now writes could miss the target unseen
		s.Unnoticed = s.Uncompared
	case e.Kind == KindSchemaAdded && s.Phase == PhaseDropped:
		s = s.unproven(e)
		s.Run, s.Watched, s.Uncompared, s.Unnoticed = Run{}, time.Time{}, false, false
	case e.Kind == KindAdvanced:
		s = s.unproven(e)
		s.Phase = e.Phase
		return s, reasonIf(s.Phase == PhaseBackfilling, "only a run leads there")
	case e.Kind == KindRolledBack:
		s = s.unproven(e) // capture goes, or begins anew: until now a plaintext could change without its cell
		if undone(e) && slices.Contains([]Phase{PhaseSchemaAdded, PhaseDualWriting, PhaseBackfilling, PhaseBackfilled}, s.Phase) {
			s.Phase = e.Phase
			return s.unwatched(e), ""
		}
		s = s.rewatched(e)
	}
	return s.climb(e)
}

// undone is a rollback of what was prepared before a cutover: the target stays, and nothing guards it any more.
func undone(e Event) bool { return e.Kind == KindRolledBack && e.Phase == PhaseSchemaAdded }

// start opens a run, or opens the job's run again, even a finished one: rows that became uncovered since are swept.
func (s State) start(e Event) (State, string) {
	if (s.Run.State == RunOpen || s.Run.State == RunPaused) && s.Run.Job != e.Job {
		return s, "another job's run is at work"
	}
	if s.Run.State == "" || s.Run.Job != e.Job {
		s.Run = Run{Job: e.Job, Started: e.At}
	}
	s.Run.State, s.Run.Total, s.Run.Ended, s.Run.Existing = RunOpen, e.Total, time.Time{}, existing(e)
	s.Uncompared = s.Suspect()
	switch {
	case s.Backfilled.IsZero() || !compares(e):
		s = s.unproven(e)
	case !s.Sound():
		s.Verified = time.Time{} // what it found is being mended
	}
	if s.stays(e) {
		return s, ""
	}
	return s.climb(e)
}

// stays is an event of a run that leaves the column where it stands, and says so by its phase: one that seals its cells
// anew, or one that brings the plaintext of a column that is cut over up to date.
func (s State) stays(e Event) bool {
	switch s.Phase {
	case PhaseDualWriting, PhaseBackfilling, PhaseBackfilled, PhaseCutOver, PhaseDropped:
		return e.Phase == s.Phase
	}
	return false
}

// run is what happens inside a run.
func (s State) run(e Event) (State, string) {
	switch {
	case !s.Run.Live() && e.Kind == KindJobCancelled:
		return s, "" // the job was called off before it began here
	case !s.Run.Live():
		return s, "no run is open"
	case s.Run.Job != e.Job:
		return s, "it is of another job than the open run"
	}
	switch e.Kind {
	case KindCheckpoint:
		return s.advance(e)
	case KindBackfilled:
		s.Run.State, s.Run.Ended = RunDone, e.At
		if s.stays(e) {
			return s, ""
		}
		if s.Backfilled.IsZero() {
			s.Backfilled = e.At
		}
		s = s.compared(s.Run.Existing)
		return s.climb(e)
	case KindRowQuarantined:
		s.Run.Quarantined++
	case KindJobPaused:
		s.Run.State = RunPaused
	case KindJobResumed:
		s.Run.State = RunOpen
	case KindJobCancelled:
		s.Run.State, s.Run.Ended = RunCancelled, e.At
	}
	return s, ""
}

// advance adds a chunk to the run.
func (s State) advance(e Event) (State, string) {
	switch {
	case !s.stays(e):
		return s, "the column was made ready anew, and no run began since"
	case e.Rows > math.MaxInt64-s.Run.Rows || e.Skipped > math.MaxInt64-s.Run.Skipped:
		return s, "the sum of its rows overflows"
	}
	s.Run.Rows, s.Run.Skipped, s.Run.Cursor = s.Run.Rows+e.Rows, s.Run.Skipped+e.Skipped, e.Cursor
	if s.Run.State == RunStopped {
		s.Run.State = RunOpen
	}
	return s, ""
}

func reasonIf(bad bool, reason string) string {
	if bad {
		return reason
	}
	return ""
}
