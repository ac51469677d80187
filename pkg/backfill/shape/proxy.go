package shape

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Proxied says that the values of the columns are written through a proxy: of all of them, or of none.
func (s *Shape) Proxied() bool { return s.Columns[0].External.Proxy }

// PlainSQL writes one row's plaintexts through the proxy. It is as plain as it can be, for the proxy has to understand
// it, and names the table by its own name. Parameters: the values, the key, the row's version.
func (s *Shape) PlainSQL() string {
	sets, n := "", 1
	for i, c := range s.Columns {
		if i > 0 {
			sets += ", "
		}
		sets += fmt.Sprintf("%s = $%d", pg.Ident(c.Output().name), n)
		n++
	}
	where, n := s.PlainKey(n)
	return fmt.Sprintf("UPDATE %s SET %s WHERE %s AND xmin OPERATOR(pg_catalog.=) $%d", s.Table.SQL(), sets, where, n)
}

// PlainLockSQL takes a row through the proxy. Parameters: the key.
func (s *Shape) PlainLockSQL() string {
	where, _ := s.PlainKey(1)
	return fmt.Sprintf("SELECT 1 FROM %s WHERE %s FOR NO KEY UPDATE", s.Table.SQL(), where)
}

// PresentSQL reads "is uncovered", version and sources of one row. Parameters: the key.
func (s *Shape) PresentSQL() string {
	sources := ""
	for _, c := range s.Columns {
		sources += ", " + c.input().sql
	}
	return fmt.Sprintf("SELECT %s, t.xmin%s FROM ONLY %s t WHERE %s", s.uncovered(), sources, s.Table.SQL(), s.RowIs(1))
}

// ProofSQL reads key, version, sources and targets of all rows of a span, in no order. Parameters: its bounds.
func (s *Shape) ProofSQL(lower, upper bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT %s, t.xmin", s.KeyList())
	for _, c := range s.Columns {
		read := c.evidence()
		b.WriteString(", " + read[0].sql + ", " + read[1].sql)
	}
	fmt.Fprintf(&b, " FROM ONLY %s t", s.Table.SQL())
	s.Where(&b, lower, upper, 1)
	return b.String()
}

// JudgeAll is the worst that is to be said of a row's columns, from their sources and targets.
func (s *Shape) JudgeAll(evidence [][]byte) (Outcome, error) {
	worst := Covered
	for i, c := range s.Columns {
		v, err := c.Judge(&Witness{Source: evidence[2*i], Target: evidence[2*i+1]})
		if err != nil {
			return Broken, err
		}
		if v.Outcome == Broken || worst == Covered {
			worst = v.Outcome
		}
	}
	return worst, nil
}

// TakeBackSQL clears the targets of one row if it is still as it was read. Parameters: the key, the version.
func (s *Shape) TakeBackSQL() string {
	sets := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		sets[i] = pg.Ident(c.Output().name) + " = NULL"
	}
	return fmt.Sprintf("UPDATE ONLY %s AS t SET %s WHERE %s AND t.xmin OPERATOR(pg_catalog.=) $%d", s.Table.SQL(), strings.Join(sets, ", "), s.RowIs(1), len(s.Key)+1)
}
