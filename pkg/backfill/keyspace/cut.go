package keyspace

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// HopsSQL cuts by index probes: every $3-th key is a boundary. Parameters: job, leaf, rows per range.
func (s *Space) HopsSQL() string {
	first := fmt.Sprintf("(SELECT %s FROM ONLY %s t ORDER BY %s OFFSET $3::int8 - 1 LIMIT 1)", s.keyAs(), s.Table.SQL(), s.KeyList())
	next := fmt.Sprintf("SELECT n.* FROM hop, LATERAL (SELECT %s FROM ONLY %s t WHERE %s ORDER BY %s OFFSET $3::int8 - 1 LIMIT 1) n",
		s.keyAs(), s.Table.SQL(), s.compareWith(">", s.numbered("hop.k%d")), s.KeyList())
	return fmt.Sprintf("WITH RECURSIVE hop AS (%s UNION ALL %s), b AS (SELECT * FROM hop) %s", first, next, s.insertRanges())
}

// SampleSQL cuts by a sample of whole rows' keys, so that composite keys are cut as well as single ones. Parameters:
// job, leaf, sampled rows per range, percent of the pages.
func (s *Space) SampleSQL() string {
	return fmt.Sprintf(`WITH sample AS (SELECT %s FROM ONLY %s t TABLESAMPLE SYSTEM ($4::float8)),
 ranked AS (SELECT *, row_number() OVER (ORDER BY %s) AS n FROM sample), b AS (SELECT * FROM ranked WHERE n %% $3::int8 = 0) %s`,
		s.keyAs(), s.Table.SQL(), strings.Join(s.numbered("k%d"), ", "), s.insertRanges())
}

// insertRanges turns the boundaries in b, with columns k0…, into ranges; the last one is open.
func (s *Space) insertRanges() string {
	parts := s.numbered("pg_catalog.format('%%s', k%d)")
	order := strings.Join(s.numbered("k%d"), ", ")
	return fmt.Sprintf(`, cut AS (SELECT ARRAY[%s]::text[] AS key, row_number() OVER (ORDER BY %s) AS n FROM b)
INSERT INTO cipherfleet.ranges (job_id, relid, after_key, through_key)
SELECT $1::uuid, $2::oid, l.key, u.key FROM cut u FULL JOIN cut l ON l.n = u.n - 1
UNION ALL SELECT $1::uuid, $2::oid, NULL, NULL WHERE NOT EXISTS (SELECT FROM cut)`, strings.Join(parts, ", "), order)
}

// keyAs is the key's columns under the names k0….
func (s *Space) keyAs() string {
	names := make([]string, len(s.Key))
	for i, k := range s.Key {
		names[i] = fmt.Sprintf("t.%s AS k%d", pg.Ident(k.Name), i)
	}
	return strings.Join(names, ", ")
}

func (s *Space) numbered(pattern string) []string {
	list := make([]string, len(s.Key))
	for i := range list {
		list[i] = fmt.Sprintf(pattern, i)
	}
	return list
}

// MiddleSQL finds the middle row of those between the bounds, or of the first most of them, if they are not
// fewer than fewest. Parameters: the bounds.
func (s *Space) MiddleSQL(lower, upper bool, most, fewest int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "WITH rest AS (SELECT %s FROM ONLY %s t", s.keyAs(), s.Table.SQL())
	s.Where(&b, lower, upper, 1)
	order := strings.Join(s.numbered("k%d"), ", ")
	fmt.Fprintf(&b, ` ORDER BY %s LIMIT %d), counted AS (SELECT *, pg_catalog.row_number() OVER (ORDER BY %s) AS n, pg_catalog.count(*) OVER () AS rows FROM rest)
SELECT %s FROM counted WHERE n OPERATOR(pg_catalog.=) (rows OPERATOR(pg_catalog./) 2) AND rows OPERATOR(pg_catalog.>=) %d`, s.KeyList(), most, order, strings.Join(s.numbered("pg_catalog.format('%%s', k%d)"), ", "), fewest)
	return b.String()
}
