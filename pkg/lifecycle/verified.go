package lifecycle

import (
	"encoding/json"
	"time"
)

// Verification is what the detail of a verified event says of it, beside its counts.
type Verification struct {
	Sample    float64   `json:"sample,omitempty"`     // percent of the rows that were read; 0: all of them
	Proven    bool      `json:"proven"`               // every row that was read is covered
	NoneWrong bool      `json:"none_wrong,omitempty"` // no cell that was read is stale or broken, no nonce came twice; rows may be uncovered
	Began     time.Time `json:"began,omitzero"`       // the server's clock
}

// Sound says that no cell was found to be of another value than its source.
func (v Verification) Sound() bool { return v.Proven || v.NoneWrong }

// RunStart is what the detail of a backfill_started says, beside its estimate.
type RunStart struct {
	Compared    bool   `json:"compared,omitempty"` // each cell that the run writes is opened and compared with its source first
	Existing    bool   `json:"existing,omitempty"` // so is each that was there when it began
	Reason      string `json:"reason,omitempty"`   // why it began again
	Quarantined int    `json:"quarantined,omitempty"`
}

// compares says that the run which this event begins writes no cell that it has not opened and compared.
func compares(e Event) bool {
	var start RunStart
	return len(e.Detail) > 0 && json.Unmarshal(e.Detail, &start) == nil && start.Compared && e.Phase != PhaseCutOver
}

// existing says that the run which this event begins compares the cells that are there, too.
func existing(e Event) bool {
	var start RunStart
	return len(e.Detail) > 0 && json.Unmarshal(e.Detail, &start) == nil && start.Existing
}

// Suspect says that cells may be of another value than their source: they are from a time when a source could change
// without anybody's noticing, or the last verification found such cells.
func (s State) Suspect() bool { return s.Uncompared || !s.Verified.IsZero() && !s.NoneWrong }

// rewatched is the state when capture was installed. If it was before, then until now a source could change beside a cell
// without anybody's noticing: whoever fills the column has to compare the cells that are there, unless a verification that
// begins from now on finds none of them wrong.
func (s State) rewatched(e Event) State {
	s.Uncompared = s.Uncompared || !s.Watched.IsZero()
	s.Watched, s.Withdrawn = e.At, false
	return s
}

// unwatched is the state when capture was taken away; with its target a column loses all its cells.
func (s State) unwatched(e Event) State {
	var back struct {
		DropTarget bool `json:"drop_target"`
	}
	if len(e.Detail) > 0 && json.Unmarshal(e.Detail, &back) == nil && back.DropTarget {
		s.Watched, s.Withdrawn = time.Time{}, true
		return s.compared(true)
	}
	return s
}

// compared is the state when every cell has been compared, or is gone.
func (s State) compared(is bool) State {
	s.Uncompared, s.Unnoticed = s.Uncompared && !is, s.Unnoticed && !is
	return s
}

// verify folds a verification in. Only one of every row is a proof; a sample can but take a proof away.
func (s State) verify(e Event) (State, string) {
	v := Verification{Began: e.At}
	switch unread := len(e.Detail) > 0 && json.Unmarshal(e.Detail, &v) != nil; {
	case unread:
		return s, "its detail cannot be read"
	case s.Phase == "":
		return s, "there is nothing to verify"
	case v.Sample == 0:
		s.Verified, s.VerifiedFrom, s.Proven, s.NoneWrong = e.At, v.Began, v.Proven, v.Sound()
		s = s.compared(v.Sound() && v.Began.After(s.Watched))
	case !v.Sound():
		s.Verified, s.Uncompared = time.Time{}, true
	}
	return s, ""
}

// Sound says that no cell of the column is of another value than its source, as far as anybody can know without opening
// each of them now: a full verification found none, and it began after the column was backfilled. Rows may be uncovered;
// a cutover looks for those itself, under its lock.
//
// It goes on being sound while the fleet sweeps what applications leave behind, or else a table that is written all the
// time could never be cut over, for a verification takes longer than such sweeps are apart. After the verification a
// cell can come to stand beside a value that it is not of in two ways only. A writer changes the value and leaves the
// cell: capture clears it in the same statement. Or a writer puts in a cell of his own: a client who says that he seals,
// and is trusted with that whether anything is swept or not; or the fleet, which opens every cell and compares it before
// it writes it, and writes it only over the very row version it read. So a run that compares, begun when the column was
// backfilled already, adds nothing that a verification would have to see. What does take it away: capture made anew (who
// knows what went past it before), a run that did not compare, a phase set by hand, a cutover taken back, and a sample
// that found something wrong.
func (s State) Sound() bool {
	return !s.Verified.IsZero() && s.NoneWrong && !s.Backfilled.IsZero() && s.VerifiedFrom.After(s.Backfilled)
}

// unproven is the state when something happened after which only a new verification can prove the column; one can as
// soon as it is backfilled.
func (s State) unproven(e Event) State {
	s.Verified, s.Backfilled = time.Time{}, time.Time{}
	if e.Phase == PhaseBackfilled {
		s.Backfilled = e.At
	}
	return s
}
