package ddl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// A fence keeps cells of retired schemes out of a column: validated, it is Postgres's proof that there are none, and
// whoever still writes one is refused. It is made only when a scheme retires: before, it would refuse every update of a
// row whose cell is old. Numbers only grow, and what a fence names is what is over, so no later scheme needs another.

// FenceName is the constraint that is a column's fence.
func FenceName(id uint32) string { return fmt.Sprintf("cipherfleet_%d_schemes", id) }

// NextFenceName is the constraint that is to become it, until every row is proven. The present one stays meanwhile, so
// that its proof never lapses.
func NextFenceName(id uint32) string { return FenceName(id) + "_next" }

// Fence refuses cells of schemes, from now on. Retired are the numbers whose cells it refuses, in any order, at least
// one. It takes an ACCESS EXCLUSIVE lock for a moment and reads no row; see [Column.ValidateFence] for those that are
// there. What an earlier attempt left is replaced.
func (c Column) Fence(retired []uint16) Step {
	table, name := c.Table.SQL(), pg.Ident(NextFenceName(c.ID))
	drop := fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", table, name)
	return Step{
		Do:   []string{drop, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s) NOT VALID", table, name, c.fenced(retired))},
		Undo: []string{drop},
	}
}

// ValidateFence proves it for every row that was there before. It reads the whole table beside readers and writers, in
// a transaction of its own. A row with such a cell fails it with a check violation.
func (c Column) ValidateFence() Step {
	return Step{Do: []string{fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", c.Table.SQL(), pg.Ident(NextFenceName(c.ID)))}}
}

// RaiseFence puts the proven fence in the place of the one before. It takes an ACCESS EXCLUSIVE lock for a moment.
func (c Column) RaiseFence() Step {
	table, name := c.Table.SQL(), pg.Ident(FenceName(c.ID))
	return Step{
		Do: []string{
			fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", table, name),
			fmt.Sprintf("ALTER TABLE %s RENAME CONSTRAINT %s TO %s", table, pg.Ident(NextFenceName(c.ID)), name),
		},
		Undo: []string{fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", table, name)},
	}
}

// fenced is the condition that a cell is of no retired scheme.
func (c Column) fenced(retired []uint16) string {
	target := pg.Ident(c.Target)
	var conditions []string
	for _, against := range barred(retired) {
		conditions = append(conditions, fmt.Sprintf(`%s OPERATOR(pg_catalog.%s) E'\\x%04x'::pg_catalog.bytea`, Scheme(target, c.Form), against.operator, against.number))
	}
	return fmt.Sprintf("%s IS NULL OR (%s)", target, strings.Join(conditions, " AND "))
}

// bar is one comparison with a scheme's number that every cell has to pass.
type bar struct {
	operator string
	number   uint16
}

// barred are the comparisons that keep the numbers out: one for all from 1 on, which is what many rotations leave.
func barred(retired []uint16) []bar {
	var through uint16
	var bars []bar
	for _, number := range slices.Compact(slices.Sorted(slices.Values(retired))) {
		if number == through+1 {
			through = number
			continue
		}
		bars = append(bars, bar{"<>", number})
	}
	if through > 0 {
		bars = slices.Insert(bars, 0, bar{">", through})
	}
	return bars
}

// IsFence says whether a condition is that of [Column.Fence] against these schemes: as pg_get_expr prints it with
// search_path pg_catalog and bytea_output hex. Of the column only Target and Form count.
func (c Column) IsFence(printed string, retired []uint16) bool {
	names := []string{c.Target, pg.Ident(c.Target)} // Postgres quotes where it has to
	return slices.ContainsFunc(names, func(name string) bool {
		var conditions []string
		for _, against := range barred(retired) {
			conditions = append(conditions, fmt.Sprintf(`(%s %s '\x%04x'::bytea)`, printedScheme(name, c.Form), against.operator, against.number))
		}
		all := strings.Join(conditions, " AND ")
		if len(conditions) > 1 {
			all = "(" + all + ")"
		}
		return printed == fmt.Sprintf("((%s IS NULL) OR %s)", name, all)
	})
}

// LeftBehind is the query for how many cells of a scheme there are, counted up to a limit: one bigint. It needs no key.
func (c Column) LeftBehind(number uint16, limit int) string {
	target := pg.Ident(c.Target)
	return fmt.Sprintf(`SELECT pg_catalog.count(*) FROM (SELECT FROM %s WHERE %s IS NOT NULL AND %s OPERATOR(pg_catalog.=) E'\\x%04x'::pg_catalog.bytea LIMIT %d) AS found`,
		c.Table.SQL(), target, Scheme(target, c.Form), number, limit)
}

// Census is the query for how many cells of each scheme there are: its number as two bytes, and a bigint. It reads every
// row.
func (c Column) Census() string {
	target := pg.Ident(c.Target)
	return fmt.Sprintf(`SELECT %[2]s, pg_catalog.count(*) FROM %[1]s WHERE %[3]s IS NOT NULL GROUP BY 1 ORDER BY 1`, c.Table.SQL(), Scheme(target, c.Form), target)
}
