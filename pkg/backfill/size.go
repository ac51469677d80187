package backfill

import (
	"sync"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
)

const (
	firstRows  = 500
	fewestRows = 10
	growth     = 1.5 // most that a chunk grows by
	panicAt    = 5   // times over target at which it shrinks at once
)

// Sizer adapts the rows of a chunk to the time its write takes and to the bytes its rows weigh: bounded steps up,
// at once down. The idea of growth-limited steps with a panic step is Spirit's. What it learned holds for a whole
// job: executors of one job, or one job and leaf, share it.
type Sizer struct {
	mu     sync.Mutex
	limits work.Limits
	rows   float64
}

// NewSizer begins with small chunks.
func NewSizer(l work.Limits) *Sizer {
	l = l.WithDefaults()
	return &Sizer{limits: l, rows: float64(min(firstRows, l.Rows))}
}

// next is how many rows the next chunk may scan.
func (s *Sizer) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.rows)
}

// wrote reports how long a write of about the present size took.
func (s *Sizer) wrote(rows int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := float64(took) / float64(s.limits.Time)
	switch {
	case over > panicAt:
		s.set(float64(rows) / 10)
	case over > 1:
		s.set(min(s.rows, float64(rows)/over))
	case float64(rows) >= s.rows/2: // a small last chunk says nothing about a full one
		s.set(s.rows * min(growth, 1/max(over, 0.01)))
	}
}

// read reports what the rows of a chunk weighed; the next one may not outgrow the byte bound.
func (s *Sizer) read(rows int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rows > 0 && bytes > 0 {
		if most := float64(s.limits.Bytes) * float64(rows) / float64(bytes); s.rows > most {
			s.set(most)
		}
	}
}

// shrink answers a lock or statement timeout.
func (s *Sizer) shrink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(s.rows / 4)
}

func (s *Sizer) set(rows float64) {
	s.rows = min(max(rows, min(fewestRows, float64(s.limits.Rows))), float64(s.limits.Rows))
}
