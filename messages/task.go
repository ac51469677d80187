package messages

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// MaxTask is the size in bytes that no task's body reaches.
const MaxTask = 300

// Task offers one range to whichever worker takes it first. Epoch is the range's epoch when it was offered: whoever
// finds a higher one in Postgres knows that the offer is stale.
type Task struct {
	V     int    `json:"v"`
	Job   string `json:"job"`
	Range int64  `json:"range"`
	Table string `json:"table"` // TableToken of the relation that holds the rows
	Epoch int64  `json:"epoch"`
}

// ID identifies the offer, for deduplication: offering the same range again under a new epoch is another message.
func (t Task) ID() string {
	return t.Job + "/" + strconv.FormatInt(t.Range, 10) + "/" + strconv.FormatInt(t.Epoch, 10)
}

// Subject is where the task is published.
func (t Task) Subject() string { return WorkSubject(t.Job, t.Table) }

// Marshal writes the task's body, at most MaxTask bytes, in the current version whatever V says.
// It refuses a task whose job or table cannot stand in a subject.
func (t Task) Marshal() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("write task: %w", err)
	}
	t.V = Version
	return json.Marshal(t)
}

// ParseTask reads a task, ignoring fields it does not know. A version it does not know is ErrVersion,
// anything else that cannot be read is ErrMalformed.
func ParseTask(body []byte) (Task, error) {
	var t Task
	if err := readTolerantly(body, &t); err != nil {
		return Task{}, fmt.Errorf("read task: %w", err)
	}
	if err := t.check(); err != nil {
		return Task{}, fmt.Errorf("read task: %w", err)
	}
	return t, nil
}

func (t Task) check() error {
	switch {
	case !isToken(t.Job):
		return fmt.Errorf("%w: field job", ErrMalformed)
	case !isTable(t.Table):
		return fmt.Errorf("%w: field table", ErrMalformed)
	case t.Range < 1:
		return fmt.Errorf("%w: field range", ErrMalformed)
	case t.Epoch < 0:
		return fmt.Errorf("%w: field epoch", ErrMalformed)
	}
	return nil
}
