package backfill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// page reads the rows of a statement, at most most: the key, each column's source and target, and the place of the row.
func (r *reader) page(ctx context.Context, statement pg.Statement, most int) error {
	statement.Add(strconv.AppendInt(nil, int64(most), 10), oidInt8, 0)
	for _, k := range r.shape.Key {
		statement.Results = append(statement.Results, k.format())
	}
	for _, c := range r.shape.Columns {
		statement.Results = append(statement.Results, formatCode(c.Binary), formatCode(!c.Foreign()))
	}
	statement.Results = append(statement.Results, 1)
	err := r.conn.Flight(ctx, pg.Statement{SQL: "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"}, pg.Statement{SQL: r.settings, Keep: true},
		statement, pg.Statement{SQL: "COMMIT"})
	if err != nil {
		_, _ = r.conn.Exec(context.WithoutCancel(ctx), "ROLLBACK") // a dead connection is thrown away by its owner
	}
	return err
}

// verifyList is what is read of each row; a source that is gone is read as NULL.
func (s *Shape) verifyList() string {
	var b strings.Builder
	b.WriteString("SELECT " + s.keyList())
	for _, c := range s.Columns {
		source := "NULL::pg_catalog.text"
		if c.Source != "" {
			source = "t." + pg.Ident(c.Source)
		}
		fmt.Fprintf(&b, ", %s, %s", source, c.target())
	}
	fmt.Fprintf(&b, ", t.ctid FROM ONLY %s t", s.Table.SQL())
	return b.String()
}

// verifySQL reads the next rows after a key.
func (s *Shape) verifySQL(lower bool) string {
	var b strings.Builder
	b.WriteString(s.verifyList())
	next := s.where(&b, lower, false, 1)
	fmt.Fprintf(&b, " ORDER BY %s LIMIT $%d", s.keyList(), next)
	return b.String()
}

// page judges the rows of one read as they arrive.
type page struct {
	*walk
	found         []Report // what the reports are with this page
	noted         [][]noted
	rows          int
	bytes         int64 // of sources and targets
	full          bool  // the bytes are met: what still arrives is read again by the next page
	end           bool  // nothing is left behind it
	last          bound
	place         []byte // of the last row: its ctid
	address       []byte
	plain, opened []byte
}

func (w *walk) newPage() *page {
	return &page{walk: w, found: cloneReports(w.reports), noted: make([][]noted, len(w.reports))}
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
	p.full = p.bytes >= p.reader.limits.Bytes
	p.rows++
	p.last, p.place = bound{parts: wire[:keys]}.clone(), append(p.place[:0], wire[len(wire)-1]...)
	var err error
	if p.address, err = p.Shape.Keys.Append(p.address[:0], wire[:keys]); err != nil {
		return err
	}
	for i, c := range p.Shape.Columns {
		if c.Foreign() {
			p.look(i, values[2*i], values[2*i+1])
		} else if c.Source == "" {
			p.authenticate(i, values[2*i+1])
		} else if err := p.judge(i, values[2*i], values[2*i+1]); err != nil {
			return err
		}
	}
	return nil
}

// judge compares a source with what its target holds.
func (p *page) judge(i int, source, target []byte) error {
	report, column := &p.found[i], p.Shape.Columns[i]
	if source == nil && (target == nil || column.Reverse) {
		before := report.Covered
		p.authenticate(i, target)
		if target != nil {
			report.Ahead += report.Covered - before
		}
		return nil
	}
	report.Rows++
	if source == nil {
		p.image(i, nil)
		report.Uncovered++
		return nil
	}
	source, err := p.Before[column.ID].Wire(source)
	if err != nil { // a row that the hook refuses has nothing to be covered by
		if target == nil {
			report.Uncovered++
		} else {
			report.Stale++
			p.example(report)
		}
		return nil
	}
	if p.plain, err = column.Codec.Encode(p.plain[:0], source); err != nil {
		return fmt.Errorf("encode a value of column %d: %w", column.ID, err)
	}
	p.image(i, p.plain)
	if target == nil {
		report.Uncovered++
		return nil
	}
	opened, header, ok := p.open(i, target)
	switch {
	case !ok:
	case !bytes.Equal(opened, p.plain):
		report.Stale++
		p.example(report)
	default:
		report.covered(header)
	}
	return nil
}

// authenticate opens a cell that there is no source to compare with.
func (p *page) authenticate(i int, target []byte) {
	report := &p.found[i]
	report.Rows++
	if target == nil {
		p.image(i, nil)
		report.Covered++
		return
	}
	if opened, header, ok := p.open(i, target); ok {
		p.image(i, opened)
		report.covered(header)
	}
}

// open opens a cell and notes its nonce; one that does not open is broken.
func (p *page) open(i int, target []byte) ([]byte, cell.Header, bool) {
	report := &p.found[i]
	opened, header, err := p.Keyring.Open(p.opened[:0], cell.Address{Column: p.Shape.Columns[i].ID, Key: p.address}, target)
	p.opened = opened
	if err != nil {
		report.Broken++
		if errors.Is(err, cell.ErrUnknownScheme) || errors.Is(err, cell.ErrUnknownKey) {
			report.Unknown++
		}
		p.example(report)
		return nil, header, false
	}
	if x, has := report.nonces.of(target); has {
		p.noted[i] = append(p.noted[i], x)
	}
	return opened, header, true
}

// image adds the row to the column's digest, if there is one.
func (p *page) image(i int, value []byte) {
	if p.digests[i] != nil {
		p.found[i].sum = p.found[i].sum.Add(p.digests[i].Row(p.address, value))
	}
}

func (r *Report) covered(header cell.Header) {
	r.Covered++
	if r.Schemes == nil {
		r.Schemes = map[uint16]int64{}
	}
	if r.Keys == nil {
		r.Keys = map[uint32]int64{}
	}
	r.Schemes[header.Scheme]++
	r.Keys[header.KeyID]++
}

// example notes the row by a hash of its encoded key: keys stay in Postgres.
func (p *page) example(report *Report) {
	if len(report.Examples) < mostExamples {
		report.Examples = append(report.Examples, KeyHash(Key{string(p.address)}))
	}
}
