package backfill

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Report is what a verification found, in rows of one column.
type Report struct {
	Column    uint32           `json:"column_id"`
	Rows      int64            `json:"rows"`
	Covered   int64            `json:"covered"`   // the target's cell opens to the source's value, or both are NULL
	Uncovered int64            `json:"uncovered"` // the target is missing, or left over
	Stale     int64            `json:"stale"`     // a cell, but of another value
	Broken    int64            `json:"broken"`    // a cell that does not open here, or no cell at all
	Schemes   map[uint16]int64 `json:"schemes"`   // covered rows with a cell, by its scheme
	Examples  []string         `json:"examples"`  // hashes of the first keys that are stale or broken
}

// Proven says that every row is covered.
func (r Report) Proven() bool { return r.Rows == r.Covered }

const mostExamples = 10

// Verifier opens every cell of a leaf and compares it with its source. It writes nothing and holds no snapshot for
// longer than a chunk; its memory does not grow with the table, and a chunk does not grow with its values.
type Verifier struct {
	DB      *pg.DB
	Shape   *Shape
	Keyring *cell.Keyring
	Limits  Limits
}

// Verify adds the leaf's rows to the reports, one per column of the shape; seen is called after each chunk with its rows.
func (v *Verifier) Verify(ctx context.Context, reports []Report, seen func(rows int)) error {
	conn, err := v.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	r := newReader(conn, v.Shape, v.Limits.WithDefaults(), 0, false)
	at, most := bound{}, min(firstPage, r.limits.Rows)
	for {
		page, before := &page{verifier: v, reports: reports, most: r.limits.Bytes}, cloneReports(reports)
		err := r.page(ctx, page, at, most)
		if pg.ClassOf(err) == pg.ClassLock && most > 1 { // it took too long: rows are heavier than they were
			copy(reports, before)
			most = max(1, most/16)
			continue
		}
		if err != nil {
			return fmt.Errorf("verify %s: %w", v.Shape.Table, err)
		}
		seen(page.rows)
		switch {
		case page.full:
			most = page.rows
		case page.rows < most:
			return nil
		default:
			most = min(2*most, r.limits.Rows)
		}
		at = page.last
	}
}

func cloneReports(reports []Report) []Report {
	clones := slices.Clone(reports)
	for i := range clones {
		clones[i].Schemes = maps.Clone(clones[i].Schemes)
	}
	return clones
}

const firstPage = 64 // rows: how heavy they are is not known yet

// page reads the next rows after a key, at most most: the key, and each column's source and target.
func (r *reader) page(ctx context.Context, p *page, after bound, most int) error {
	statement := pg.Statement{SQL: r.shape.verifySQL(!after.open()), Row: p.row}
	r.shape.bind(&statement, after)
	statement.Add(strconv.AppendInt(nil, int64(most), 10), oidInt8, 0)
	for _, k := range r.shape.Key {
		statement.Results = append(statement.Results, k.format())
	}
	for _, c := range r.shape.Columns {
		statement.Results = append(statement.Results, formatCode(c.Binary), 1)
	}
	err := r.conn.Flight(ctx, pg.Statement{SQL: "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"}, pg.Statement{SQL: r.settings, Keep: true},
		statement, pg.Statement{SQL: "COMMIT"})
	if err != nil {
		_, _ = r.conn.Exec(context.WithoutCancel(ctx), "ROLLBACK") // a dead connection is thrown away by its owner
	}
	return err
}

func (s *Shape) verifySQL(lower bool) string {
	var b strings.Builder
	b.WriteString("SELECT " + s.keyList())
	for _, c := range s.Columns {
		fmt.Fprintf(&b, ", t.%s, t.%s", pg.Ident(c.Source), pg.Ident(c.Target))
	}
	fmt.Fprintf(&b, " FROM ONLY %s t", s.Table.SQL())
	next := s.where(&b, lower, false, 1)
	fmt.Fprintf(&b, " ORDER BY %s LIMIT $%d", s.keyList(), next)
	return b.String()
}

// page judges the rows of one read as they arrive.
type page struct {
	verifier      *Verifier
	reports       []Report
	rows          int
	most, bytes   int64 // of sources and targets
	full          bool  // the bytes are met: what still arrives is read again by the next page
	last          bound
	address       []byte
	plain, opened []byte
}

func (p *page) row(wire [][]byte) error {
	if p.full {
		return nil
	}
	shape := p.verifier.Shape
	keys := len(shape.Key)
	for _, value := range wire[keys:] {
		p.bytes += int64(len(value))
	}
	p.full = p.bytes >= p.most
	p.rows++
	p.last = bound{parts: wire[:keys]}.clone()
	var err error
	if p.address, err = shape.Keys.Append(p.address[:0], wire[:keys]); err != nil {
		return err
	}
	for i := range shape.Columns {
		if err := p.judge(i, wire[keys+2*i], wire[keys+2*i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) judge(i int, source, target []byte) error {
	report, column := &p.reports[i], p.verifier.Shape.Columns[i]
	report.Rows++
	switch {
	case source == nil && target == nil:
		report.Covered++
		return nil
	case (source == nil) != (target == nil):
		report.Uncovered++
		return nil
	}
	var err error
	if p.plain, err = column.Codec.Encode(p.plain[:0], source); err != nil {
		return fmt.Errorf("encode a value of column %d: %w", column.ID, err)
	}
	opened, header, err := p.verifier.Keyring.Open(p.opened[:0], cell.Address{Column: column.ID, Key: p.address}, target)
	switch {
	case err != nil:
		report.Broken++
		p.example(report)
	case !bytes.Equal(opened, p.plain):
		report.Stale++
		p.example(report)
	default:
		report.Covered++
		if report.Schemes == nil {
			report.Schemes = map[uint16]int64{}
		}
		report.Schemes[header.Scheme]++
	}
	p.opened = opened
	return nil
}

// example notes the row by a hash of its encoded key: keys stay in Postgres.
func (p *page) example(report *Report) {
	if len(report.Examples) < mostExamples {
		report.Examples = append(report.Examples, KeyHash(Key{string(p.address)}))
	}
}
