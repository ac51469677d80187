package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/exchange"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Rebind changes a row's key, with every encrypted column of the row that is among these: a row-bound cell opens in its
// own row only. It is one UPDATE in the caller's transaction, after a look that locks the row. Every encrypted column of
// the table must be among these; [pgx.ErrNoRows] says that there is no such row. The tenant whose key seals is the row's,
// which takes SELECT on its column; a tenant that is part of the key is the new one.
func (cs Columns) Rebind(ctx context.Context, tx pgx.Tx, from, to Key) error {
	if len(cs) == 0 || cs[0].at.Load().key == nil {
		return fmt.Errorf("rebind a row: %w", ErrNoKey)
	}
	if err := cs.rebind(ctx, tx, from, to); err != nil {
		return fmt.Errorf("rebind a row of %s: %w", cs[0].table, err)
	}
	return nil
}

func (cs Columns) rebind(ctx context.Context, tx pgx.Tx, from, to Key) error {
	at := cs[0].at.Load()
	names, values := make([]string, len(at.key.parts)), make([]any, len(cs))
	for i, part := range at.key.parts {
		names[i] = pg.Ident(part.name)
	}
	cells, tenants, into := make([][]byte, len(cs)), make([]*string, len(cs)), make([]any, len(cs))
	if err := cs.others(ctx, tx); err != nil {
		return err
	}
	var sealed, wanted []string
	schemes := make([]cell.Scheme, len(cs))
	for i, column := range cs {
		s := column.at.Load()
		if s.relid != at.relid {
			return errors.New("the columns are of several tables")
		}
		if s.id == 0 || s.sealed == "" {
			return fmt.Errorf("%s has no column of cells", column.name)
		}
		sealed, into[i] = append(sealed, s.sealed), &cells[i]
		var err error
		if schemes[i], err = column.client.chooses(s, &wanted); err != nil {
			return fmt.Errorf("column %s: %w", column.name, err)
		}
		into = append(into, &tenants[i])
	}
	if len(from) != len(names) || len(to) != len(names) {
		return fmt.Errorf("the key has %d columns: %w", len(names), ErrNoKey)
	}
	look := fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s FOR UPDATE", pg.Idents(sealed), strings.Join(wanted, ", "), at.table.SQL(), at.key.matches(1))
	if err := tx.QueryRow(ctx, look, from...).Scan(into...); err != nil {
		return pg.Safe(err)
	}
	for i, column := range cs {
		var err error
		if values[i], err = column.resealed(ctx, tx.Conn().TypeMap(), schemes[i], from, to, tenants[i], cells[i]); err != nil {
			return fmt.Errorf("column %s: %w", column.name, err)
		}
	}
	writer := ddl.WriterRotation // the values stay as they are, and so does plaintext beside the cells
	if slices.ContainsFunc(cs, func(c *Column) bool { s := c.at.Load(); return !s.cells() || len(s.kin) > 0 }) {
		writer = ddl.WriterClient // a cell beside the truth stays for no other
	}
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config($1, $2, true)`, ddl.WriterSetting, writer); err != nil {
		return pg.Safe(err)
	}
	var set []string
	for i, name := range append(names, quoted(sealed)...) {
		set = append(set, fmt.Sprintf("%s = $%d", name, len(from)+i+1))
	}
	for _, column := range cs {
		for _, name := range quoted(column.at.Load().tokens.Names()) {
			set = append(set, name+" = "+ddl.Marked(name)) // of the same value
		}
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf("UPDATE %s SET %s WHERE %s", at.table.SQL(), strings.Join(set, ", "), at.key.matches(1)),
		append(append(append([]any{}, from...), to...), values...)...); err != nil {
		return pg.Safe(err)
	}
	_, err := tx.Exec(ctx, `SELECT pg_catalog.set_config($1, '', true)`, ddl.WriterSetting) // what follows may write other values
	return pg.Safe(err)
}

func quoted(names []string) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = pg.Ident(name)
	}
	return list
}

// matches is the condition that a row has the key of these parameters.
func (k *rowKey) matches(first int) string {
	conditions := make([]string, len(k.parts))
	for i, part := range k.parts {
		conditions[i] = fmt.Sprintf("%s %s $%d", pg.Ident(part.name), part.equal, first+i)
	}
	return strings.Join(conditions, " AND ")
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
		if column.kind.why != nil || column.name == "" {
			return scheme, fmt.Errorf("scheme %d: %w", scheme.Number, errors.Join(column.kind.why, ErrTenant))
		}
		expression = exchange.Spelled(column.name)
	}
	*wanted = append(*wanted, expression)
	return scheme, nil
}

// resealed is the cell of one key's row for another's, of the tenant that the row names, or will name where that is part of
// the key; nil stays nil.
func (c *Column) resealed(ctx context.Context, m *pgtype.Map, scheme cell.Scheme, from, to Key, tenant *string, old []byte) (any, error) {
	if old == nil {
		return nil, nil
	}
	s := c.at.Load()
	old, err := s.form.Parse(nil, old)
	if err != nil {
		return nil, err
	}
	wire, _, err := c.client.openAt(m, s, from, old)
	if err != nil {
		return nil, err
	}
	r := row{key: to, tenant: tenant, spelled: true}
	if at := slices.IndexFunc(s.key.parts, func(p keyPart) bool { return p.name == s.tenants[scheme.Number].name }); at >= 0 {
		r.tenant, r.tenanted, r.spelled = to[at], true, false
	}
	sealed, err := c.client.seal(ctx, m, s, scheme, r, wire)
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
