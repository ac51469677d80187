package roadmap

import (
	"math"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

// Cost is about what a column's backfill takes, if it goes alone; several columns of one table go in one pass.
type Cost struct {
	Rows      int64   `json:"rows"`       // to be written
	WALBytes  int64   `json:"wal_bytes"`  // with one full image of each page
	DiskBytes int64   `json:"disk_bytes"` // more, until vacuum has reclaimed old versions of rows
	Seconds   int64   `json:"seconds"`
	PerSecond float64 `json:"rows_per_second"`
	Measured  bool    `json:"measured"` // by the last large job of this installation; else the rate is a guess
	Guessed   bool    `json:"guessed"`  // there are no statistics of the column that could be read: its width is a guess
}

// What is taken where nothing was measured.
const (
	guessedRate  = 20_000 // rows a second of one coordinator with its own workers on two cores
	guessedWidth = 32     // bytes of a value
)

// What one new version of a row adds: its WAL record beside the tuple, and in each index an entry and its record. An
// update is hardly ever HOT while the pages are full.
const (
	recordBytes     = 60
	indexWALBytes   = 85
	indexEntryBytes = 40
)

// cost estimates by the statistics, and by the rate of the last job.
func (m *mapper) cost(l *status.Look) *Cost {
	c := &Cost{PerSecond: m.facts.rate, Measured: m.facts.rate > 0}
	if !c.Measured {
		c.PerSecond = guessedRate
	}
	w, known := m.facts.widths[standing.Place{Relation: l.Relation.OID, Attnum: l.Plain.Attnum}]
	if !known {
		w.bytes, c.Guessed = guessedWidth, true
	}
	uncovered := float64(l.Status.Coverage.Uncovered)
	if !l.Counted && l.Wanted.Schemes[l.Wanted.Scheme].Nulls != cell.SealNulls.String() {
		uncovered *= 1 - w.nulls
	}
	rows, pages := math.Ceil(uncovered), float64(l.Relation.Pages())
	total := max(1, float64(l.Status.Coverage.Total))
	tuple := pages*float64(m.facts.server.block)/total + sealedWidth(l.Wanted, w.bytes)
	indexes := float64(len(l.Relation.Indexes))
	wal := rows * (tuple + recordBytes + indexes*indexWALBytes)
	if m.facts.server.fullPages {
		wal += min(pages, rows) * float64(m.facts.server.block)
	}
	c.Rows, c.WALBytes, c.DiskBytes = int64(rows), int64(wal), int64(rows*(tuple+indexes*indexEntryBytes))
	c.Seconds = int64(math.Ceil(rows / c.PerSecond))
	return c
}

// sealedWidth is how long the cell of a value of so many bytes is.
func sealedWidth(c *manifest.Column, bytes float64) float64 {
	scheme := c.Schemes[c.Scheme]
	s := cell.Scheme{Suite: cell.SuiteXAES256GCM, Padding: scheme.Padding, Nulls: scheme.Nulls == cell.SealNulls.String()}
	if scheme.Suite == "aes-256-siv" {
		s.Suite = cell.SuiteAES256SIV
	}
	return float64(s.SealedLength(int(bytes)))
}
