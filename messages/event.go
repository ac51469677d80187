package messages

import (
	"encoding/json"
	"fmt"
	"time"
)

// The kinds of progress. A kind is the last token of an event's subject.
const (
	KindCheckpoint = "checkpoint" // one chunk has been committed
	KindRange      = "range"      // one range is finished
	KindJob        = "job"        // a job's state changed
)

// Progress tells what has been done, for displays. It is sent at most once and may be lost: the truth is the event
// log in Postgres. Rows and Skipped count since the last progress of the same range, not since its start.
type Progress struct {
	V       int       `json:"v"`
	Kind    string    `json:"kind"`
	Job     string    `json:"job"`
	Range   int64     `json:"range,omitempty"`
	Rows    int64     `json:"rows"`
	Skipped int64     `json:"skipped"`
	State   string    `json:"state,omitempty"` // the job's state, of KindJob only
	Worker  string    `json:"worker,omitempty"`
	At      time.Time `json:"at"`
}

// Subject is where the progress is published.
func (p Progress) Subject() string { return EventSubject(p.Job, p.Kind) }

// Marshal writes the body in the current version whatever V says.
func (p Progress) Marshal() ([]byte, error) {
	if !isToken(p.Job) || !isToken(p.Kind) {
		return nil, fmt.Errorf("write progress: %w: field job or kind", ErrMalformed)
	}
	p.V = Version
	return json.Marshal(p)
}

// ParseProgress reads progress, ignoring fields it does not know; errors are ErrVersion and ErrMalformed.
func ParseProgress(body []byte) (Progress, error) {
	var p Progress
	if err := readTolerantly(body, &p); err != nil {
		return Progress{}, fmt.Errorf("read progress: %w", err)
	}
	return p, nil
}

// ClassMalformed is the class of a dead letter for a message that was no task.
const ClassMalformed = "malformed"

// DeadLetter tells of a task that nobody will try again. Class is a class of errors, never an error's text: the text
// of a database error may quote values.
type DeadLetter struct {
	V        int       `json:"v"`
	Job      string    `json:"job"`
	Range    int64     `json:"range"` // 0 when the message could not be read
	Table    string    `json:"table"`
	Epoch    int64     `json:"epoch"`
	Attempts int       `json:"attempts"`
	Class    string    `json:"class"`
	Worker   string    `json:"worker,omitempty"`
	At       time.Time `json:"at"`
}

// Subject is where the dead letter is published.
func (d DeadLetter) Subject() string { return DeadSubject(d.Job, d.Table) }

// Marshal writes the body in the current version whatever V says.
func (d DeadLetter) Marshal() ([]byte, error) {
	if !isToken(d.Job) || !isToken(d.Table) {
		return nil, fmt.Errorf("write dead letter: %w: field job or table", ErrMalformed)
	}
	d.V = Version
	return json.Marshal(d)
}

// ParseDeadLetter reads a dead letter, ignoring fields it does not know; errors are ErrVersion and ErrMalformed.
func ParseDeadLetter(body []byte) (DeadLetter, error) {
	var d DeadLetter
	if err := readTolerantly(body, &d); err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter: %w", err)
	}
	return d, nil
}
