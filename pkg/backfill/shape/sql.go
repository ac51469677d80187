package shape

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The statements of the engine are texts made from a shape, with every identifier quoted and every operator
// qualified: users' triggers rely on their own search_path, so ours must not matter. Golden files hold them.

// uncovered is true for a row of alias t that one of the columns has still to be made for.
func (s *Shape) uncovered() string {
	terms := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		terms[i] = c.uncovered()
	}
	return strings.Join(terms, " OR ")
}

// Echoes says whether what is written is read back by the same statement and compared.
func (s *Shape) Echoes() bool {
	return slices.ContainsFunc(s.Columns, func(c Column) bool { return c.Output().Echoed })
}

// echo is the list of what is read back, each behind a comma.
func (s *Shape) echo() string {
	var b strings.Builder
	for _, c := range s.Columns {
		if out := c.Output(); out.Echoed {
			b.WriteString(", " + present(out.name))
		}
	}
	return b.String()
}

// choosers are what chooses keys, of the columns where something does: read behind the sources, as text.
func (s *Shape) choosers() (list []string) {
	for _, c := range s.Columns {
		if c.Tenant != "" {
			list = append(list, "t."+pg.Ident(c.Tenant))
		}
	}
	return list
}

// ReadSQL reads key, xmin, "is uncovered" and the sources of uncovered rows, in key order; where cells are compared, the
// same of rows that have theirs, and behind it those cells. Parameters: the lower
// bound if there is one, the upper bound if there is one, the most rows. Sparse reads uncovered rows alone: after the
// first pass few are left, and a range bounds what is scanned for them.
func (s *Shape) ReadSQL(lower, upper, sparse bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT %s, t.xmin, %s", s.KeyList(), s.wanted())
	for _, c := range s.Columns {
		source := c.input().sql
		if !sparse && c.Output().Sends() {
			source = fmt.Sprintf("CASE WHEN %s THEN %s END", s.wanted(), source)
		}
		b.WriteString(", " + source)
	}
	for _, chooser := range s.choosers() {
		b.WriteString(", " + chooser)
	}
	for _, read := range s.boundColumns() {
		b.WriteString(", " + read.sql)
	}
	for _, stored := range s.stored() {
		b.WriteString(", " + stored.sql)
	}
	judged := s.Fallible() && !sparse
	if judged { // row by row: a sort would ask every row for its value before it counts
		b.WriteString(" FROM (SELECT t.*, t.xmin")
	}
	fmt.Fprintf(&b, " FROM ONLY %s t", s.Table.SQL())
	next := s.Where(&b, lower, upper, 1)
	if sparse {
		word := " AND "
		if next == 1 {
			word = " WHERE "
		}
		fmt.Fprintf(&b, "%s(%s)", word, s.wanted())
	}
	fmt.Fprintf(&b, " ORDER BY %s LIMIT $%d", s.KeyList(), next)
	if judged {
		fmt.Fprintf(&b, ") t ORDER BY %s", s.KeyList())
	}
	return b.String()
}

// UpdateSQL is the compare-and-set of a chunk. Parameters: one array per key column, the xmins, one array of cells per
// column, then the chunk's own bounds: without them the planner may walk the whole index for a merge join.
// With skipLocked, rows that somebody holds are left alone instead of waited for. With look, it returns how many rows
// were written, and how many of them are uncovered all the same, because a trigger changed their source meanwhile. A
// shape that echoes returns every row written instead: its number in the arrays, the same, and what is stored now.
func (s *Shape) UpdateSQL(lower, skipLocked, look bool) string {
	keys, columns := len(s.Key), 0
	var sets, params, names, match []string
	for i, k := range s.Key {
		params = append(params, fmt.Sprintf("$%d", i+1))
		names = append(names, fmt.Sprintf("k%d", i))
		match = append(match, k.Compare("=", fmt.Sprintf("v.k%d%s", i, k.Cast)))
	}
	params, names = append(params, fmt.Sprintf("$%d", keys+1)), append(names, "x")
	match = append(match, "t.xmin OPERATOR(pg_catalog.=) v.x")
	for i, c := range s.Columns {
		out := c.Output()
		if out.Sends() {
			params = append(params, fmt.Sprintf("$%d", keys+2+columns))
			names = append(names, fmt.Sprintf("c%d", i))
			columns++
		}
		sets = append(sets, out.assign(fmt.Sprintf("v.c%d%s", i, out.cast)))
	}
	bounds := s.Compare("<=", keys+columns+2)
	if lower {
		bounds += " AND " + s.Compare(">", 2*keys+columns+2)
	}
	number := ""
	if s.Echoes() {
		number, names = " WITH ORDINALITY", append(names, "n")
	}
	list := strings.Join(names, ", ")
	values := fmt.Sprintf("ROWS FROM (pg_catalog.unnest(%s))%s AS v(%s)", strings.Join(params, "), pg_catalog.unnest("), number, list)
	where := strings.Join(match, " AND ") + " AND " + bounds
	locked, from := "", values
	if skipLocked {
		locked = fmt.Sprintf("v AS MATERIALIZED (SELECT v.%s FROM ONLY %s AS t, %s WHERE %s FOR NO KEY UPDATE OF t SKIP LOCKED)",
			strings.Join(names, ", v."), s.Table.SQL(), values, where)
		from = "v"
	}
	update := fmt.Sprintf("UPDATE ONLY %s AS t SET %s FROM %s WHERE %s", s.Table.SQL(), strings.Join(sets, ", "), from, where)
	switch {
	case s.Echoes():
		update += fmt.Sprintf(" RETURNING v.n, %s%s", s.uncovered(), s.echo())
		if skipLocked {
			update = "WITH " + locked + " " + update
		}
		return update
	case look && skipLocked:
		return fmt.Sprintf("WITH %s, u AS (%s RETURNING %s AS uncovered) %s", locked, update, s.uncovered(), lookSQL)
	case look:
		return fmt.Sprintf("WITH u AS (%s RETURNING %s AS uncovered) %s", update, s.uncovered(), lookSQL)
	case skipLocked:
		return fmt.Sprintf("WITH %s %s", locked, update)
	}
	return update
}

const lookSQL = "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE u.uncovered) FROM u"

// LockSQL takes one row, whoever fights for it, and reads the same under the lock but for its version. Parameters:
// the key.
func (s *Shape) LockSQL() string {
	sources := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		sources[i] = c.input().sql
	}
	sources = append(sources, s.choosers()...)
	for _, read := range s.boundColumns() {
		sources = append(sources, read.sql)
	}
	for _, stored := range s.stored() {
		sources = append(sources, stored.sql)
	}
	return fmt.Sprintf("SELECT %s, %s, %s FROM ONLY %s t WHERE %s FOR NO KEY UPDATE",
		s.wanted(), s.KeyList(), strings.Join(sources, ", "), s.Table.SQL(), s.RowIs(1))
}

// WriteOneSQL writes the row that [Shape.LockSQL] holds, says whether it is uncovered afterwards, and echoes. Parameters: key,
// cells.
func (s *Shape) WriteOneSQL() string {
	sets, sent := make([]string, len(s.Columns)), 0
	for i, c := range s.Columns {
		out := c.Output()
		if sets[i] = out.assign(fmt.Sprintf("$%d", len(s.Key)+1+sent)); out.Sends() {
			sent++
		}
	}
	return fmt.Sprintf("UPDATE ONLY %s AS t SET %s WHERE %s RETURNING %s%s", s.Table.SQL(), strings.Join(sets, ", "), s.RowIs(1), s.uncovered(), s.echo())
}
