package pg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// NotFound is the error of a table that is not there.
type NotFound struct {
	Schema, Name string
	Near         []Table // existing tables with a like name, likeliest first, at most three
}

func (e *NotFound) Error() string {
	if e.Schema == "" {
		return fmt.Sprintf("there is no table %q on the search path", e.Name)
	}
	return fmt.Sprintf("there is no table %q in schema %q", e.Name, e.Schema)
}

// Near picks, likeliest first, at most three candidates that someone who typed name may have meant: the same but for
// case, or few letters away.
func Near(name string, candidates []string) []string {
	type guess struct {
		name string
		far  int
	}
	var guesses []guess
	for _, c := range candidates {
		if far := distance(strings.ToLower(name), strings.ToLower(c)); c != name && far <= max(1, len(name)/3) {
			guesses = append(guesses, guess{c, far})
		}
	}
	slices.SortStableFunc(guesses, func(a, b guess) int { return cmp.Or(a.far-b.far, strings.Compare(a.name, b.name)) })
	var near []string
	for _, g := range guesses[:min(3, len(guesses))] {
		near = append(near, g.name)
	}
	return near
}

// distance counts the letters to add, drop or change between a and b (Levenshtein).
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j := range to {
			change := diagonal
			if from[i] != to[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(to)]
}

const tablesSQL = `
SELECT n.nspname::text, c.relname::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND NOT n.nspname ^@ 'pg_'
ORDER BY n.nspname = $1::text DESC, 1, 2 LIMIT 10000`

// notFound is the [*NotFound] for a name, or the error of looking for near ones.
func notFound(ctx context.Context, q Querier, schema, table string) error {
	var tables []Table
	err := atHome(ctx, q, func(q Querier) (err error) {
		tables, err = readRows(ctx, q, tablesSQL, func(row pgx.CollectableRow) (t Table, err error) {
			return t, row.Scan(&t.Schema, &t.Name)
		}, schema)
		return err
	})
	if err != nil {
		return errors.Join(&NotFound{Schema: schema, Name: table}, fmt.Errorf("look for near names: %w", err))
	}
	return &NotFound{Schema: schema, Name: table, Near: nearTables(schema, table, tables)}
}

// nearTables guesses by the table's name first; a table of that very name elsewhere is the likeliest.
func nearTables(schema, table string, tables []Table) []Table {
	var near []Table
	for _, t := range tables {
		if t.Name == table && t.Schema != schema {
			near = append(near, t)
		}
	}
	names := make([]string, 0, len(tables))
	for _, t := range tables {
		names = append(names, t.Name)
	}
	for _, name := range Near(table, slices.Compact(slices.Sorted(slices.Values(names)))) {
		for _, t := range tables {
			if t.Name == name {
				near = append(near, t)
			}
		}
	}
	return near[:min(3, len(near))]
}
