package lifecycle

import (
	"encoding/json"
	"time"
)

// Verification is what the detail of a verified event says of it, beside its counts.
type Verification struct {
	Sample float64   `json:"sample,omitempty"` // percent of the rows that were read; 0: all of them
	Proven bool      `json:"proven"`           // every row that was read is covered
	Began  time.Time `json:"began,omitzero"`   // the server's clock
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
		s.Verified, s.VerifiedFrom, s.Proven = e.At, v.Began, v.Proven
	case !v.Proven:
		s.Verified = time.Time{}
	}
	return s, ""
}
