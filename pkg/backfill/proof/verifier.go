package proof

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Report is what a verification found, in rows of one column. The zero Report is that of no row.
type Report struct {
	Column    uint32           `json:"column_id"`
	Rows      int64            `json:"rows"`
	Covered   int64            `json:"covered"`   // the target's cell opens to the source's value, or both are NULL; without a source: it opens, or is NULL
	Ahead     int64            `json:"ahead"`     // of the covered: cells written since the cutover, which open, and whose plaintext is not there yet
	Uncovered int64            `json:"uncovered"` // the target is missing, or left over
	Stale     int64            `json:"stale"`     // a cell, but of another value
	Broken    int64            `json:"broken"`    // a cell that does not open here, or no cell at all
	Unknown   int64            `json:"unknown"`   // of the broken: cells of a scheme or key that the registry does not have
	Schemes   map[uint16]int64 `json:"schemes"`   // covered rows with a cell, by its scheme
	Keys      map[uint32]int64 `json:"keys"`      // the same by the id of its key
	Nonces    Nonces           `json:"nonces"`
	Digest    string           `json:"digest,omitempty"` // of every row's key and value, whatever their order; "" of a sample
	Examples  []string         `json:"examples"`         // hashes of the first keys that are stale or broken

	sum    cell.RowSum
	nonces *nonces
}

// Proven says that every row is covered, and that no key was used twice with the same nonce.
func (r Report) Proven() bool { return r.Rows == r.Covered && r.Nonces.Repeated == 0 }

// NoneWrong says that no cell is of another value than its source, and that no key was used twice with the same nonce.
// Rows may be without a cell: whoever needs each of them covered looks for those.
func (r Report) NoneWrong() bool { return r.Stale == 0 && r.Broken == 0 && r.Nonces.Repeated == 0 }

const mostExamples = 10

// Verifier opens every cell of a leaf and compares it with its source. It writes nothing and holds no snapshot for
// longer than a chunk; its memory does not grow with the table, and a chunk does not grow with its values.
type Verifier struct {
	DB      *pg.DB
	Shape   *shape.Shape // of [shape.Open], or of [shape.OpenProof]
	Keyring *cell.Keyring
	Limits  work.Limits
	Sample  float64                   // percent of the leaf's blocks that are read; 0: every row
	Digests map[uint32]cell.DigestKey // by column id; a column without one gets no digest
	Before  map[uint32]transform.Hook // by column id: what sources were changed by before they were sealed
}

// Verify adds the leaf's rows to the reports, one per column of the shape; seen is called after each chunk with its rows.
func (v *Verifier) Verify(ctx context.Context, reports []Report, seen func(rows int)) error {
	conn, err := v.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	w := &walk{Verifier: v, conn: conn, limits: v.Limits.WithDefaults(), settings: pg.PinnedFor(pageTimeout), reports: reports, seen: seen, most: firstPage}
	for i, c := range v.Shape.Columns {
		if reports[i].nonces == nil {
			reports[i].nonces = newNonces()
		}
		var d *cell.Digest
		if key, has := v.Digests[c.ID]; has && v.Sample == 0 {
			d = key.New()
		}
		w.digests = append(w.digests, d)
	}
	if v.Sample > 0 {
		err = w.sample(ctx, v.Sample)
	} else {
		err = w.all(ctx)
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w", v.Shape.Table, err)
	}
	for i := range reports {
		reports[i].Nonces = reports[i].nonces.result()
		if w.digests[i] != nil {
			reports[i].Digest = reports[i].sum.String()
		}
	}
	return nil
}

const (
	firstPage   = 64 // rows: how heavy they are is not known yet
	pageTimeout = 10 * time.Second
)

// walk reads pages of one leaf, and judges their rows.
type walk struct {
	*Verifier
	conn     *pg.Conn
	limits   work.Limits
	settings string
	reports  []Report
	digests  []*cell.Digest // by column; nil: none
	seen     func(int)
	most     int // rows of the next page
}

// all reads the leaf from end to end, in the order of its key.
func (w *walk) all(ctx context.Context) error {
	for at := (keyspace.Bound{}); ; {
		p, err := w.page(ctx, func(s *shape.Shape) string { return s.VerifySQL(!at.Open()) }, func(s *pg.Statement) { w.Shape.Bind(s, at) })
		if err != nil || p.end {
			return err
		}
		at = p.last
	}
}

// page reads and judges the rows of one statement whose last parameter is how many; one that takes too long is read
// again in smaller parts, for rows are heavier than they were.
//
// A row that raises an error when it is judged is found by reading ever fewer, and then read without.
func (w *walk) page(ctx context.Context, sql func(*shape.Shape) string, bind func(*pg.Statement)) (*page, error) {
	for view := w.Shape; ; {
		w.most = min(w.most, w.limits.Rows)
		p := w.newPage(ctx, view)
		statement := pg.Statement{SQL: sql(view), Row: p.row}
		bind(&statement)
		err := w.read(ctx, view, statement, w.most)
		switch {
		case pg.ClassOf(err) == pg.ClassLock && w.most > 1:
			w.most = max(1, w.most/16)
			continue
		case pg.ClassOf(err) == pg.ClassData && view.Fallible():
			if w.most == 1 {
				view = view.Blind()
			}
			w.most = max(1, w.most/2)
			continue
		case err != nil:
			return nil, err
		}
		p.merge()
		w.seen(p.rows)
		p.end = !p.full && p.rows < w.most
		if p.full {
			w.most = p.rows
		} else if !p.end {
			w.most *= 2
		}
		return p, nil
	}
}

// cloneReports keeps what a page finds apart until it has been read to its end.
func cloneReports(reports []Report) []Report {
	clones := slices.Clone(reports)
	for i := range clones {
		clones[i].Schemes, clones[i].Keys = maps.Clone(clones[i].Schemes), maps.Clone(clones[i].Keys)
		clones[i].Examples = slices.Clip(clones[i].Examples)
	}
	return clones
}
