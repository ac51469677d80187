package shape

import (
	"fmt"
	"strings"
)

// verifyList is what is read of each row.
func (s *Shape) verifyList() string {
	var b strings.Builder
	b.WriteString("SELECT " + s.KeyList())
	for _, c := range s.Columns {
		for _, read := range c.evidence() {
			b.WriteString(", " + read.sql)
		}
	}
	for _, read := range s.boundColumns() {
		b.WriteString(", " + read.sql)
	}
	b.WriteString(", t.ctid FROM ")
	return b.String()
}

// verified is what a page is read from: the rows that a condition finds, as many as the last parameter says. Where
// judging may raise an error they are counted before they are judged.
func (s *Shape) verified(where, order string, next int) string {
	from := fmt.Sprintf("ONLY %s t%s ORDER BY %s LIMIT $%d", s.Table.SQL(), where, order, next)
	if s.Fallible() {
		from = fmt.Sprintf("(SELECT t.*, t.ctid FROM %s) t ORDER BY %s", from, order)
	}
	return s.verifyList() + from
}

// VerifySQL reads the next rows after a key.
func (s *Shape) VerifySQL(lower bool) string {
	var b strings.Builder
	next := s.Where(&b, lower, false, 1)
	return s.verified(b.String(), s.KeyList(), next)
}

// SampleRunSQL reads the next rows after a place. Parameters: the place, and where the run ends.
func (s *Shape) SampleRunSQL() string {
	return s.verified(" WHERE t.ctid OPERATOR(pg_catalog.>) $1 AND t.ctid OPERATOR(pg_catalog.<) $2", "t.ctid", 3)
}
