package messages

import (
	"encoding/json"
	"fmt"
	"time"
)

// Job is what the coordinator answers to every request about one job. Counts are of rows and approximate while the
// job runs; Total is an estimate.
type Job struct {
	V             int       `json:"v"`
	ID            string    `json:"id"`
	RequestID     string    `json:"request_id"`
	Table         string    `json:"table"` // schema-qualified, for people
	Columns       []string  `json:"columns"`
	Kind          string    `json:"kind"`  // backfill, rotate, rollback or index: what is done to them
	State         string    `json:"state"` // planning, running, sweeping, watching, paused, done, failed, cancelled
	Rows          int64     `json:"rows"`
	Total         int64     `json:"total"`
	Skipped       int64     `json:"skipped"`
	Quarantined   int64     `json:"quarantined"`
	Conflicts     int64     `json:"conflicts"`
	RowsPerSecond float64   `json:"rows_per_second"`
	Ranges        Ranges    `json:"ranges"`
	Workers       int       `json:"workers"`
	Scheme        int       `json:"scheme,omitempty"`      // what a rotation seals under; 0: it is none
	HandedBack    []string  `json:"handed_back,omitempty"` // why workers gave ranges back that nobody works on now: classes of errors, or SQLSTATEs
	StoppedBy     string    `json:"stopped_by,omitempty"`
	TraceID       string    `json:"trace_id,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
}

// Kinds of jobs.
const (
	KindBackfill = "backfill" // values are made for the targets
	KindRotate   = "rotate"   // cells are sealed anew
	KindRollback = "rollback" // cells are opened into plaintext
	KindIndex    = "index"    // tokens are made of cells
)

// Ranges counts a job's ranges by their state; Leased are those of the pending ones that a worker holds.
type Ranges struct {
	Pending int `json:"pending"`
	Leased  int `json:"leased"`
	Done    int `json:"done"`
	Split   int `json:"split"`
}

// JobList is the answer to a list request, the newest job first.
type JobList struct {
	V    int   `json:"v"`
	Jobs []Job `json:"jobs"`
}

// Marshal writes the body in the current version whatever V says.
func (j Job) Marshal() ([]byte, error) {
	j.V = Version
	if j.Columns == nil {
		j.Columns = []string{}
	}
	return json.Marshal(j)
}

// ParseJob reads a job, ignoring fields it does not know; errors are ErrVersion and ErrMalformed.
func ParseJob(body []byte) (Job, error) {
	var j Job
	if err := readTolerantly(body, &j); err != nil {
		return Job{}, fmt.Errorf("read job: %w", err)
	}
	return j, nil
}

// Marshal writes the body in the current version whatever V says.
func (l JobList) Marshal() ([]byte, error) {
	jobs := make([]Job, len(l.Jobs))
	for i, job := range l.Jobs {
		job.V = Version
		jobs[i] = job
	}
	return json.Marshal(JobList{V: Version, Jobs: jobs})
}

// ParseJobList reads a list, ignoring fields it does not know; errors are ErrVersion and ErrMalformed.
func ParseJobList(body []byte) (JobList, error) {
	var l JobList
	if err := readTolerantly(body, &l); err != nil {
		return JobList{}, fmt.Errorf("read job list: %w", err)
	}
	return l, nil
}
