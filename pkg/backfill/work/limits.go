package work

import "time"

// Limits bound a chunk. A zero field means its default.
type Limits struct {
	Rows  int           `json:"rows,omitempty"`  // most rows scanned by one chunk; default 5000
	Bytes int64         `json:"bytes,omitempty"` // most bytes of source values in one chunk; default 4 MiB
	Time  time.Duration `json:"time,omitempty"`  // what one writing transaction should take; default 250 ms
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	if l.Rows <= 0 {
		l.Rows = 5000
	}
	if l.Bytes <= 0 {
		l.Bytes = 4 << 20
	}
	if l.Time <= 0 {
		l.Time = 250 * time.Millisecond
	}
	return l
}
