package proof

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// read reads the rows of a statement of a view of the leaf, at most most: the key, each column's source and target, and
// the place of the row.
func (w *walk) read(ctx context.Context, view *shape.Shape, statement pg.Statement, most int) error {
	statement.Add(strconv.AppendInt(nil, int64(most), 10), pgtype.Int8OID, 0)
	statement.Results = view.VerifyFormats()
	return w.conn.Read(ctx, w.settings, statement)
}

// page judges the rows of one read as they arrive.
type page struct {
	*walk
	view  *shape.Shape // that judges
	found []Report     // what the reports are with this page
	noted [][]noted
	rows  int
	bytes int64 // of sources and targets
	full  bool  // the bytes are met: what still arrives is read again by the next page
	end   bool  // nothing is left behind it
	last  keyspace.Bound
	place []byte // of the last row: its ctid

	witness  shape.Witness
	bindings []byte // scratch: what the row's cells may be bound to beside its key
}

func (w *walk) newPage(ctx context.Context, view *shape.Shape) *page {
	return &page{walk: w, view: view, found: cloneReports(w.reports), noted: make([][]noted, len(w.reports)), witness: shape.Witness{Context: ctx, Keyring: w.Keyring}}
}

// merge makes the page's findings the verification's: it was read to its end.
func (p *page) merge() {
	copy(p.reports, p.found)
	for i, list := range p.noted {
		for _, x := range list {
			p.reports[i].nonces.add(x, mostNonces)
		}
	}
}

func (p *page) row(wire [][]byte) error {
	if p.full {
		return nil
	}
	keys := len(p.Shape.Key)
	values := wire[keys : len(wire)-1]
	for _, value := range values {
		p.bytes += int64(len(value))
	}
	p.full = p.bytes >= p.limits.Bytes
	p.rows++
	p.last, p.place = keyspace.Bound{Parts: wire[:keys]}.Clone(), append(p.place[:0], wire[len(wire)-1]...)
	var err error
	if p.witness.Address.Key, err = p.Shape.Keys.Append(p.witness.Address.Key[:0], wire[:keys]); err != nil {
		return err
	}
	bindings, arena, err := p.Shape.AppendBound(p.witness.Address.Bound[:0], p.bindings[:0], values[2*len(p.view.Columns):])
	if err != nil {
		return err
	}
	p.witness.Address.Bound, p.bindings = bindings, arena
	for i, c := range p.view.Columns {
		w := &p.witness
		w.Before, w.Address.Column, w.Source, w.Target = p.Before[c.ID], c.ID, values[2*i], values[2*i+1]
		v, err := c.Judge(w)
		if err != nil {
			return err
		}
		p.note(i, v)
	}
	return nil
}

// note adds a verdict to the column's report.
func (p *page) note(i int, v shape.Verdict) {
	report := &p.found[i]
	report.Rows++
	if v.HasImage && p.digests[i] != nil {
		report.sum = report.sum.Add(p.digests[i].Row(p.witness.Address.Key, v.Image))
	}
	if v.Opened {
		if x, has := report.nonces.of(p.witness.Target); has {
			p.noted[i] = append(p.noted[i], x)
		}
	}
	switch v.Outcome {
	case shape.Covered:
		report.covered(v)
	case shape.Uncovered:
		report.Uncovered++
	case shape.Stale:
		report.Stale++
		p.example(report)
	case shape.Broken:
		report.Broken++
		if v.Unknown {
			report.Unknown++
		}
		p.example(report)
	}
}

func (r *Report) covered(v shape.Verdict) {
	r.Covered++
	if v.Ahead {
		r.Ahead++
	}
	if !v.Opened {
		return
	}
	if r.Schemes == nil {
		r.Schemes = map[uint16]int64{}
	}
	if r.Keys == nil {
		r.Keys = map[uint32]int64{}
	}
	r.Schemes[v.Header.Scheme]++
	r.Keys[v.Header.KeyID]++
}

// example notes the row by a hash of its encoded key: keys stay in Postgres.
func (p *page) example(report *Report) {
	if len(report.Examples) < mostExamples {
		report.Examples = append(report.Examples, keyspace.Hash(keyspace.Key{string(p.witness.Address.Key)}))
	}
}
