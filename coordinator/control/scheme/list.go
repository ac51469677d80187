package scheme

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// List is every scheme a column ever had.
type List struct {
	V       int      `json:"v"`
	Table   string   `json:"table"`
	Column  string   `json:"column"`
	Schemes []Scheme `json:"schemes"`
}

// List lists the schemes of a column. With count it reads the whole table for how many cells each has; cells of a number
// that the registry does not know are listed too, as [Unknown].
func (r *Registry) List(ctx context.Context, n standing.Name, count bool) (List, error) {
	c, err := r.find(ctx, n)
	if err != nil {
		return List{}, err
	}
	l := List{V: messages.Version, Table: c.Relation.Table().String(), Column: c.Source, Schemes: []Scheme{}}
	err = standing.Reading(ctx, r.DB, "0", func(tx pg.Tx) error {
		proven, err := fenced(ctx, tx, c, retired(c.Rows))
		if err != nil {
			return err
		}
		for _, s := range c.Rows {
			d := c.Described(s)
			d.Fenced = proven && (s.State == lifecycle.SchemeRetired || s.State == lifecycle.SchemeDestroyed)
			l.Schemes = append(l.Schemes, d)
		}
		if !count {
			return nil
		}
		return l.count(ctx, tx, c)
	})
	return l, err
}

// census is how many cells a scheme has.
type census struct {
	number uint16
	cells  int64
}

// count fills in the cells.
func (l *List) count(ctx context.Context, tx pg.Tx, c column) error {
	counted, err := take(ctx, tx, c)
	if err != nil {
		return err
	}
	for i := range l.Schemes {
		l.Schemes[i].Cells = new(int64)
	}
	for _, one := range counted {
		at := slices.IndexFunc(l.Schemes, func(s Scheme) bool { return s.Number == one.number })
		if at < 0 {
			at = len(l.Schemes)
			l.Schemes = append(l.Schemes, Scheme{Number: one.number, State: Unknown, Cells: new(int64)})
		}
		*l.Schemes[at].Cells = one.cells
	}
	return nil
}

// take counts the cells of each scheme, which reads the whole table.
func take(ctx context.Context, q pg.Querier, c column) ([]census, error) {
	if c.Sealed.Attnum == 0 {
		return nil, nil
	}
	rows, err := q.Query(ctx, c.steps().Census())
	if err != nil {
		return nil, fmt.Errorf("count cells: %w", err)
	}
	counted, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (one census, err error) {
		var number []byte
		if err := row.Scan(&number, &one.cells); err != nil {
			return one, err
		}
		if len(number) == 2 {
			one.number = binary.BigEndian.Uint16(number)
		}
		return one, nil
	})
	if err != nil {
		return nil, fmt.Errorf("count cells: %w", pg.Safe(err))
	}
	return counted, nil
}

const fenceSQL = `SELECT pg_catalog.pg_get_expr(k.conbin, k.conrelid), k.convalidated FROM pg_catalog.pg_constraint k
 WHERE k.conrelid = $1 AND k.contype = 'c' AND k.conname = $2`

// fenced says whether Postgres has proved that no cell of these schemes is left, and refuses any: the fence stands, as
// it was made, validated. Where the column of cells is gone, there is nothing to prove.
func fenced(ctx context.Context, tx pg.Tx, c column, retired []uint16) (bool, error) {
	if len(retired) == 0 || c.Sealed.Attnum == 0 {
		return c.Sealed.Attnum == 0, nil
	}
	const printing = `SELECT pg_catalog.set_config('search_path', 'pg_catalog', true), pg_catalog.set_config('bytea_output', 'hex', true)`
	if _, err := tx.Exec(ctx, printing); err != nil {
		return false, err
	}
	rows, err := tx.Query(ctx, fenceSQL, c.Relid, ddl.FenceName(c.ID))
	if err != nil {
		return false, fmt.Errorf("look for the fence: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (proven bool, err error) {
		var condition string
		err = row.Scan(&condition, &proven)
		return proven && c.steps().IsFence(condition, retired), err
	})
	if err != nil {
		return false, fmt.Errorf("look for the fence: %w", pg.Safe(err))
	}
	return len(found) == 1 && found[0], nil
}
