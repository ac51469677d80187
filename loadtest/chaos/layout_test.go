package chaos

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// layout is the shape of the application's table. Rows are numbered; a row's key is made of its number.
type layout struct {
	name    string
	table   pg.Table
	key     []string // column names
	types   []string
	clauses string // behind the column list
	parts   string // further statements; %s is the table
	keyOf   func(n int64) []any
}

// What must never be seen outside Postgres: it is in every value, and in every key that can hold it.
const (
	plainMark = "pl4inM4rk"
	keyMark   = "k3yM4rk"
)

func layouts() []layout {
	number := func(n int64) []any { return []any{n} }
	return []layout{
		{name: "bigint key", table: pg.Table{Schema: "public", Name: "accounts"}, key: []string{"id"}, types: []string{"bigint"},
			keyOf: func(n int64) []any { return []any{n * 1_000_003} }},
		{name: "text and int key", table: pg.Table{Schema: "Odd \"Shop\"", Name: "or.ders"}, key: []string{"ten ant", "Number"}, types: []string{`text COLLATE "ucs_basic"`, "int"},
			keyOf: func(n int64) []any { return []any{fmt.Sprintf("%s '%d\\,ö", keyMark, n%29), int32(n)} }},
		{name: "uuid key", table: pg.Table{Schema: "public", Name: "Select"}, key: []string{"user"}, types: []string{"uuid"},
			keyOf: func(n int64) []any { return []any{md5.Sum(fmt.Append(nil, n))} }},
		{name: "partitioned", table: pg.Table{Schema: "public", Name: "ledger"}, key: []string{"id"}, types: []string{"bigint"}, keyOf: number,
			clauses: "PARTITION BY RANGE (id)",
			parts: `CREATE TABLE ledger_a PARTITION OF %[1]s FOR VALUES FROM (MINVALUE) TO (9000);
CREATE TABLE ledger_b PARTITION OF %[1]s FOR VALUES FROM (9000) TO (17000);
CREATE TABLE ledger_c PARTITION OF %[1]s DEFAULT`},
	}
}

// create is the DDL of the table and its mirror.
func (l layout) create(p plan) string {
	columns := make([]string, len(l.key))
	for i, name := range l.key {
		columns[i] = pg.Ident(name) + " " + l.types[i] + " NOT NULL"
	}
	key, primary := strings.Join(columns, ", "), "PRIMARY KEY ("+l.keyList()+")"
	targets := ""
	if !p.prepare {
		targets = ", secret_encrypted bytea"
		if p.dated {
			targets += ", born_encrypted bytea"
		}
	}
	statements := []string{
		"CREATE SCHEMA IF NOT EXISTS " + pg.Ident(l.table.Schema),
		fmt.Sprintf("CREATE TABLE %s (%s, secret text, born timestamptz, note text, version int NOT NULL, touched timestamptz%s, %s) %s", l.table.SQL(), key, targets, primary, l.clauses),
		fmt.Sprintf("CREATE TABLE chaos.mirror (%s, secret text, born timestamptz, note text, version int NOT NULL, %s)", key, primary),
	}
	if l.parts != "" {
		statements = append(statements, fmt.Sprintf(l.parts, l.table.SQL()))
	}
	return strings.Join(statements, ";\n")
}

func (l layout) keyList() string {
	names := make([]string, len(l.key))
	for i, name := range l.key {
		names[i] = pg.Ident(name)
	}
	return strings.Join(names, ", ")
}

// row is the condition that picks one row by parameters $first….
func (l layout) row(first int) string {
	terms := make([]string, len(l.key))
	for i, name := range l.key {
		terms[i] = fmt.Sprintf("%s = $%d", pg.Ident(name), first+i)
	}
	return strings.Join(terms, " AND ")
}

// address encodes a key as its cells authenticate it, straight from docs/envelope.md and not by the engine's encoder.
func address(key []any) []byte {
	encoded := cell.AppendKeyCount(nil, len(key))
	for _, part := range key {
		switch part := part.(type) {
		case int64:
			encoded = cell.AppendKeyInt(encoded, part)
		case int32:
			encoded = cell.AppendKeyInt(encoded, int64(part))
		case string:
			encoded = cell.AppendKeyText(encoded, []byte(part))
		case [16]byte:
			encoded = cell.AppendKeyUUID(encoded, part)
		default:
			panic(fmt.Sprintf("no layout has a key of type %T", part))
		}
	}
	return encoded
}

// before reports whether the key of row a comes before that of row b, as Postgres orders them.
func (l layout) before(a, b int64) bool {
	one, other := l.keyOf(a), l.keyOf(b)
	for i := range one {
		order := 0
		switch part := one[i].(type) {
		case int64:
			order = cmp.Compare(part, other[i].(int64))
		case int32:
			order = cmp.Compare(part, other[i].(int32))
		case string:
			order = cmp.Compare(part, other[i].(string)) // the collations of the layouts compare bytes
		case [16]byte:
			second := other[i].([16]byte)
			order = bytes.Compare(part[:], second[:])
		}
		if order != 0 {
			return order < 0
		}
	}
	return false
}

// down sorts rows from the high keys to the low ones: against the fleet, which goes upwards. All of the application's
// transactions keep to it, so that it never deadlocks with itself.
func (l layout) down(rows []int64) []int64 {
	slices.SortFunc(rows, func(a, b int64) int {
		if l.before(b, a) {
			return -1
		}
		return 1
	})
	return rows
}

// with is the arguments of a statement: some values, then a key or several.
func with(values []any, keys ...[]any) []any {
	return append(slices.Clone(values), slices.Concat(keys...)...)
}
