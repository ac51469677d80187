package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/client/template"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// RewriteQuery makes a [Column] what pgx calls a query rewriter: given as the first argument of a statement, it puts
// the present names and the sealed values where the placeholders are. The other arguments keep their numbers.
func (c *Column) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	return Columns{c}.RewriteQuery(ctx, conn, sql, args)
}

// RewriteQuery is the same for several columns.
func (cs Columns) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	if len(cs) == 0 {
		return sql, args, nil
	}
	t, err := cs[0].client.parsed.parse(cs, sql)
	if err != nil {
		return "", nil, err
	}
	w := writing{ctx: ctx, types: conn.TypeMap(), columns: cs, given: args, params: map[int]int{}, standings: map[*Column]*standing{}}
	for _, p := range t {
		if err := w.piece(p); err != nil {
			return "", nil, err
		}
	}
	for i := range args {
		if !t.Takes(i + 1) {
			return "", nil, fmt.Errorf("nothing in the statement takes argument $%d", i+1)
		}
	}
	return w.sql.String(), w.args, nil
}

// writing is one statement on its way.
type writing struct {
	ctx       context.Context
	types     *pgtype.Map
	columns   Columns
	given     []any
	standings map[*Column]*standing // one for each column, so that a statement is of one moment

	sql    strings.Builder
	args   []any
	params map[int]int // where a given argument went
}

func (w *writing) piece(p template.Piece) error {
	switch p.Use {
	case template.Text:
		w.sql.WriteString(p.Text)
		return nil
	case template.Param:
		return w.param(p.Param)
	}
	column := w.columns.named(p.Text)
	s := w.standings[column]
	if s == nil {
		s = column.at.Load().now()
		w.standings[column] = s
	}
	switch p.Use {
	case template.Read:
		w.sql.WriteString(s.read())
	case template.Names:
		w.sql.WriteString(pg.Idents(s.writes()))
	case template.Excluded:
		for i, name := range s.writes() {
			w.assign(i, name)
			if value := "excluded." + pg.Ident(name); name == s.plain || name == s.sealed || s.twins(name) {
				w.sql.WriteString(value)
			} else {
				w.sql.WriteString(ddl.Marked(value))
			}
		}
	case template.Lookup:
		return w.lookup(column, s, p)
	default:
		return w.write(column, s, p)
	}
	return nil
}

// read is the name to read by. Behind each turn the statement is another text: connections keep plans by their text, and
// one that was made while the name meant another column is an error when the name has turned back.
func (s *standing) read() string {
	if s.turn == 0 {
		return pg.Ident(s.reads())
	}
	return fmt.Sprintf("%s/*%d*/", pg.Ident(s.reads()), s.turn)
}

func (w *writing) assign(i int, name string) {
	if i > 0 {
		w.sql.WriteString(", ")
	}
	w.sql.WriteString(pg.Ident(name) + " = ")
}

// param passes a given argument on.
func (w *writing) param(n int) error {
	at, ok := w.params[n]
	if !ok {
		if n > len(w.given) {
			return fmt.Errorf("there is no argument for $%d", n)
		}
		w.args = append(w.args, w.given[n-1])
		at = len(w.args)
		w.params[n] = at
	}
	w.sql.WriteString("$" + strconv.Itoa(at))
	return nil
}

// write puts the values of one column, each in its place.
func (w *writing) write(column *Column, s *standing, p template.Piece) error {
	v, err := w.values(column, s, p)
	if err != nil {
		return fmt.Errorf("write %s.%s: %w", column.table, column.name, err)
	}
	for i, value := range v {
		name := s.writes()[i]
		if p.Use == template.Set {
			w.assign(i, name)
		} else if i > 0 {
			w.sql.WriteString(", ")
		}
		w.args = append(w.args, value)
		switch {
		case name == s.plain:
			fmt.Fprintf(&w.sql, "$%d", len(w.args))
		case s.twins(name):
			fmt.Fprintf(&w.sql, alone, len(w.args), s.twin.form)
		case name != s.sealed:
			fmt.Fprintf(&w.sql, "$%d::pg_catalog.bytea", len(w.args))
		case s.both() || s.twin != nil:
			fmt.Fprintf(&w.sql, knowing, len(w.args), s.form)
		default:
			fmt.Fprintf(&w.sql, alone, len(w.args), s.form)
		}
	}
	return nil
}

// alone is a cell's parameter where no plaintext is left. Its type is named, so that the statement is another one than
// that which wrote plaintext under the same name: connections keep the types of parameters, too.
const alone = `$%d::pg_catalog.%s`

// knowing is a cell's parameter that says by the way, before any trigger looks at the row, that the transaction writes
// cell and plaintext.
const knowing = `(SELECT $%d::pg_catalog.%s FROM pg_catalog.set_config('` + ddl.WriterSetting + `', '` + ddl.WriterClient + `', true))`

// values are what a write stores: the plaintext, and its cell where there is a column of cells. Where plaintext is the
// truth and no scheme is active yet, there is no cell: the row is uncovered, and a job will cover it.
func (w *writing) values(column *Column, s *standing, p template.Piece) ([]any, error) {
	for _, n := range p.Named() {
		if n > len(w.given) {
			return nil, fmt.Errorf("there is no argument for $%d", n)
		}
	}
	r := row{}
	for _, n := range p.Key {
		r.key = append(r.key, w.given[n-1])
	}
	if p.Tenant > 0 {
		r.tenant, r.tenanted = w.given[p.Tenant-1], true
	}
	for _, named := range p.With {
		if r.with == nil {
			r.with = map[string]any{}
		}
		r.with[named.Name] = w.given[named.Param-1]
	}
	return column.client.stored(w.ctx, w.types, s, r, w.given[p.Param-1])
}
