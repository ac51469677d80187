package backfill

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// read reads the rows of a statement, at most most: the key, each column's source and target, and the place of the row.
func (w *walk) read(ctx context.Context, statement pg.Statement, most int) error {
	statement.Add(strconv.AppendInt(nil, int64(most), 10), pgtype.Int8OID, 0)
	statement.Results = w.Shape.verifyFormats()
	err := w.conn.Flight(ctx, pg.Statement{SQL: "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"}, pg.Statement{SQL: w.settings, Keep: true},
		statement, pg.Statement{SQL: "COMMIT"})
	if err != nil {
		_, _ = w.conn.Exec(context.WithoutCancel(ctx), "ROLLBACK") // a dead connection is thrown away by its owner
	}
	return err
}

// verifyList is what is read of each row.
func (s *Shape) verifyList() string {
	var b strings.Builder
	b.WriteString("SELECT " + s.keyList())
	for _, c := range s.Columns {
		for _, read := range c.evidence() {
			b.WriteString(", " + read.sql)
		}
	}
	b.WriteString(", t.ctid FROM ")
	return b.String()
}

// verified is what a page is read from: the rows that a condition finds, as many as the last parameter says. Where
// judging may raise an error they are counted before they are judged.
func (s *Shape) verified(where, order string, next int) string {
	from := fmt.Sprintf("ONLY %s t%s ORDER BY %s LIMIT $%d", s.Table.SQL(), where, order, next)
	if s.fallible() {
		from = fmt.Sprintf("(SELECT t.*, t.ctid FROM %s) t ORDER BY %s", from, order)
	}
	return s.verifyList() + from
}

// verifySQL reads the next rows after a key.
func (s *Shape) verifySQL(lower bool) string {
	var b strings.Builder
	next := s.where(&b, lower, false, 1)
	return s.verified(b.String(), s.keyList(), next)
}

// page judges the rows of one read as they arrive.
type page struct {
	*walk
	found []Report // what the reports are with this page
	noted [][]noted
	rows  int
	bytes int64 // of sources and targets
	full  bool  // the bytes are met: what still arrives is read again by the next page
	end   bool  // nothing is left behind it
	last  bound
	place []byte // of the last row: its ctid

	witness witness
}

func (w *walk) newPage(ctx context.Context) *page {
	return &page{walk: w, found: cloneReports(w.reports), noted: make([][]noted, len(w.reports)), witness: witness{ctx: ctx, keyring: w.Keyring}}
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
	p.last, p.place = bound{parts: wire[:keys]}.clone(), append(p.place[:0], wire[len(wire)-1]...)
	var err error
	if p.witness.address.Key, err = p.Shape.Keys.Append(p.witness.address.Key[:0], wire[:keys]); err != nil {
		return err
	}
	for i, c := range p.Shape.Columns {
		w := &p.witness
		w.before, w.address.Column, w.source, w.target = p.Before[c.ID], c.ID, values[2*i], values[2*i+1]
		v, err := c.judge(w)
		if err != nil {
			return err
		}
		p.note(i, v)
	}
	return nil
}

// note adds a verdict to the column's report.
func (p *page) note(i int, v verdict) {
	report := &p.found[i]
	report.Rows++
	if v.imaged && p.digests[i] != nil {
		report.sum = report.sum.Add(p.digests[i].Row(p.witness.address.Key, v.image))
	}
	if v.opened {
		if x, has := report.nonces.of(p.witness.target); has {
			p.noted[i] = append(p.noted[i], x)
		}
	}
	switch v.outcome {
	case covered:
		report.covered(v)
	case uncovered:
		report.Uncovered++
	case stale:
		report.Stale++
		p.example(report)
	case broken:
		report.Broken++
		if v.unknown {
			report.Unknown++
		}
		p.example(report)
	}
}

func (r *Report) covered(v verdict) {
	r.Covered++
	if v.ahead {
		r.Ahead++
	}
	if !v.opened {
		return
	}
	if r.Schemes == nil {
		r.Schemes = map[uint16]int64{}
	}
	if r.Keys == nil {
		r.Keys = map[uint32]int64{}
	}
	r.Schemes[v.header.Scheme]++
	r.Keys[v.header.KeyID]++
}

// example notes the row by a hash of its encoded key: keys stay in Postgres.
func (p *page) example(report *Report) {
	if len(report.Examples) < mostExamples {
		report.Examples = append(report.Examples, KeyHash(Key{string(p.witness.address.Key)}))
	}
}
