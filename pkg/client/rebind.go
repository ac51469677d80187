package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/exchange"
	"github.com/cipherfleet/cipherfleet/pkg/client/place"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Rebind changes a row's key, with every encrypted column of the row that is among these: a row-bound cell opens in its
// own row only. It is one UPDATE in the caller's transaction, after a look that locks the row. Every encrypted column of
// the table must be among these; [pgx.ErrNoRows] says that there is no such row. The tenant whose key seals is the row's,
// which takes SELECT on its column, as do columns that a cell is bound to; one that is part of the key is the new one.
func (cs Columns) Rebind(ctx context.Context, tx pgx.Tx, from, to Key) error {
	at := cs.key()
	if at == nil {
		return fmt.Errorf("rebind a row: %w", ErrNoKey)
	}
	set := make(map[string]any, len(to))
	for i, part := range at.Parts {
		if len(to) == len(at.Parts) {
			set[part.Name] = to[i]
		}
	}
	if err := cs.rebind(ctx, tx, from, set); err != nil {
		return fmt.Errorf("rebind a row of %s: %w", cs[0].table, err)
	}
	return nil
}

// RebindWith is the same for other columns of a row, by their names: those that its cells are bound to.
func (cs Columns) RebindWith(ctx context.Context, tx pgx.Tx, key Key, set map[string]any) error {
	if cs.key() == nil {
		return fmt.Errorf("rebind a row: %w", ErrNoKey)
	}
	if err := cs.rebind(ctx, tx, key, set); err != nil {
		return fmt.Errorf("rebind a row of %s: %w", cs[0].table, err)
	}
	return nil
}

// key is that of the columns' table; nil: there is none.
func (cs Columns) key() *place.Columns {
	if len(cs) == 0 {
		return nil
	}
	return cs[0].at.Load().key
}

// rebinding is a row that gets other values for what its cells are bound to.
type rebinding struct {
	from, to row
	tenants  []*string // by column, as the row had them
	cells    [][]byte  // by column
	schemes  []cell.Scheme
}

func (cs Columns) rebind(ctx context.Context, tx pgx.Tx, from Key, set map[string]any) error {
	at := cs[0].at.Load()
	if len(from) != len(at.key.Parts) || len(set) == 0 {
		return fmt.Errorf("the key has %d columns: %w", len(at.key.Parts), ErrNoKey)
	}
	for _, column := range cs {
		s := column.at.Load()
		for _, name := range append(s.writes(), s.plain) {
			if _, set := set[name]; set {
				return fmt.Errorf("column %s is encrypted: its value stays; write another one in a statement of its own", name)
			}
		}
	}
	if err := cs.others(ctx, tx); err != nil {
		return err
	}
	r, sealed, err := cs.lookAgain(ctx, tx, at, from)
	if err != nil {
		return err
	}
	r.to = row{key: slices.Clone(from), with: maps.Clone(r.from.with)}
	for name, value := range set {
		if i := slices.Index(at.key.Names(), name); i >= 0 {
			r.to.key[i] = value
		}
		r.to.with[name] = value
	}
	names := slices.Sorted(maps.Keys(set))
	args := append([]any{}, from...)
	var assign []string
	add := func(name string, value any) {
		args = append(args, value)
		assign = append(assign, fmt.Sprintf("%s = $%d", pg.Ident(name), len(args)))
	}
	for _, name := range names {
		add(name, set[name])
	}
	for i, column := range cs {
		value, err := column.resealed(ctx, tx.Conn().TypeMap(), r, i)
		if err != nil {
			return fmt.Errorf("column %s: %w", column.name, err)
		}
		add(sealed[i], value)
		for _, name := range quoted(column.at.Load().tokens.Names()) {
			assign = append(assign, name+" = "+ddl.Marked(name)) // of the same value
		}
	}
	writer := ddl.WriterRotation // the values stay as they are, and so does plaintext beside the cells
	if slices.ContainsFunc(cs, func(c *Column) bool { s := c.at.Load(); return !s.cells() || len(s.kin) > 0 }) {
		writer = ddl.WriterClient // a cell beside the truth stays for no other
	}
	if _, err := tx.Exec(ctx, rebindsSQL, ddl.WriterSetting, writer, ddl.RebindSetting, "on"); err != nil {
		return pg.Safe(err)
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf("UPDATE %s SET %s WHERE %s", at.table.SQL(), strings.Join(assign, ", "), at.key.Matches(1)), args...); err != nil {
		return pg.Safe(err)
	}
	_, err = tx.Exec(ctx, rebindsSQL, ddl.WriterSetting, "", ddl.RebindSetting, "") // what follows may write other values
	return pg.Safe(err)
}

const rebindsSQL = `SELECT pg_catalog.set_config($1, $2, true), pg_catalog.set_config($3, $4, true)`

// lookAgain locks the row and reads its cells, what chooses their keys, and what they may be bound to.
func (cs Columns) lookAgain(ctx context.Context, tx pgx.Tx, at *standing, from Key) (r rebinding, sealed []string, err error) {
	r = rebinding{from: row{key: from, with: map[string]any{}}, tenants: make([]*string, len(cs)), cells: make([][]byte, len(cs)), schemes: make([]cell.Scheme, len(cs))}
	var wanted []string
	into := make([]any, 2*len(cs))
	places := map[string]*place.Columns{}
	for i, column := range cs {
		s := column.at.Load()
		switch {
		case s.relid != at.relid:
			return r, nil, errors.New("the columns are of several tables")
		case s.id == 0 || s.sealed == "":
			return r, nil, fmt.Errorf("%s has no column of cells", column.name)
		}
		sealed, into[i], into[len(cs)+i] = append(sealed, s.sealed), &r.cells[i], &r.tenants[i]
		if r.schemes[i], err = column.client.chooses(s, &wanted); err != nil {
			return r, nil, fmt.Errorf("column %s: %w", column.name, err)
		}
		for label, found := range s.bound {
			if found.Usable() == nil {
				places[label] = found
			}
		}
	}
	list := append(quoted(sealed), wanted...)
	for _, label := range slices.Sorted(maps.Keys(places)) {
		for _, name := range places[label].Names() {
			list, into = append(list, pg.Ident(name)), append(into, nil)
		}
	}
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s FOR UPDATE", strings.Join(list, ", "), at.table.SQL(), at.key.Matches(1)), from...)
	if err != nil {
		return r, nil, pg.Safe(err)
	}
	defer rows.Close()
	if !rows.Next() {
		return r, nil, cmp.Or(pg.Safe(rows.Err()), pgx.ErrNoRows)
	}
	if err := rows.Scan(into...); err != nil {
		return r, nil, pg.Safe(err)
	}
	next := 2 * len(cs)
	for _, label := range slices.Sorted(maps.Keys(places)) {
		found := places[label]
		values, err := found.Values(rows, found.From(next))
		if err != nil {
			return r, nil, err
		}
		for i, part := range found.Parts {
			r.from.with[part.Name] = values[i]
		}
		next += len(found.Parts)
	}
	return r, sealed, nil
}

func quoted(names []string) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = pg.Ident(name)
	}
	return list
}

// chooses is the scheme that a column is sealed under, and adds the expression for what chooses its key to those wanted.
func (c *Client) chooses(s *standing, wanted *[]string) (cell.Scheme, error) {
	scheme, ok := c.chain.Active(s.id)
	if !ok {
		return scheme, ErrNoScheme
	}
	expression := "NULL::pg_catalog.text"
	if chooser := c.chain.TenantColumn(s.id, scheme.Number); chooser != "" {
		column := s.tenants[scheme.Number]
		if column.kind.Why != nil || column.name == "" {
			return scheme, fmt.Errorf("scheme %d: %w", scheme.Number, errors.Join(column.kind.Why, ErrTenant))
		}
		expression = exchange.Spelled(column.name)
	}
	*wanted = append(*wanted, expression)
	return scheme, nil
}

// resealed is the cell of a column for what its row becomes, of the tenant that the row names, or will name where that
// changes; nil stays nil.
func (c *Column) resealed(ctx context.Context, m *pgtype.Map, r rebinding, i int) (any, error) {
	if r.cells[i] == nil {
		return nil, nil
	}
	s := c.at.Load()
	old, err := s.form.Parse(nil, r.cells[i])
	if err != nil {
		return nil, err
	}
	wire, _, err := c.client.openAt(m, s, r.from, old)
	if err != nil {
		return nil, err
	}
	to := r.to
	to.tenant, to.spelled = r.tenants[i], true
	chooser := s.tenants[r.schemes[i].Number].name
	if at := slices.IndexFunc(s.key.Parts, func(p place.Part) bool { return p.Name == chooser }); at >= 0 {
		to.tenant, to.tenanted, to.spelled = to.key[at], true, false
	} else if value, named := to.with[chooser]; named {
		to.tenant, to.tenanted, to.spelled = value, true, false
	}
	sealed, err := c.client.seal(ctx, m, s, r.schemes[i], to, wire)
	return s.stored(sealed), err
}

// others refuses a row that has cells of columns that are not among these: they would stay behind under the old key.
func (cs Columns) others(ctx context.Context, tx pgx.Tx) error {
	registered, err := lifecycle.Columns(ctx, pg.Tx{Tx: tx}, cs[0].at.Load().relid)
	if err != nil {
		return err
	}
	for _, known := range registered {
		if slices.ContainsFunc(cs, func(c *Column) bool { return c.at.Load().related(known.ID) }) {
			continue // its cell is cleared with the key's change, and made anew
		}
		if !slices.ContainsFunc(cs, func(c *Column) bool { return c.at.Load().id == known.ID }) {
			return fmt.Errorf("column %s is encrypted too: name it as well", known.Source)
		}
	}
	return nil
}
