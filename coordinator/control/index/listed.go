package index

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// mostListed rows without a token are filled from their list; more are shared out, and met while the table is walked.
const mostListed = 50_000

// mindTheList has the planner take the index of the rows without a token: it thinks that half of the rows are some.
func mindTheList(ctx context.Context, tx pg.Querier) error {
	_, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('enable_seqscan', 'off', true)`)
	return err
}

// listed says that few rows lack their token, and an index holds them: a job need not walk the table.
func (c column) listed(ctx context.Context, q pg.Querier, steps ddl.Token) (bool, error) {
	list, err := standingOf(ctx, q, c, ddl.TokenListName(steps.Index))
	if err != nil || list != BuiltValid {
		return false, err
	}
	if err := mindTheList(ctx, q); err != nil {
		return false, err
	}
	rows := 0
	if err := q.QueryRow(ctx, steps.Listed(), mostListed+1).Scan(&rows); err != nil {
		return false, fmt.Errorf("count rows without a token: %w", err)
	}
	return rows <= mostListed, nil
}

// Unlisted is how the index of the rows that lack a token is made, of a blind index that is ready and has none, or
// one that is not valid; false: there is nothing to make.
func Unlisted(ctx context.Context, db *pg.DB, id uint32) (column uint32, step ddl.Step, wanted bool, err error) {
	err = standing.Reading(ctx, db, "5s", func(tx pg.Tx) error {
		x, found, err := lifecycle.IndexByID(ctx, tx, id)
		if err != nil || !found || x.State != lifecycle.IndexReady {
			return err // another build has its turn before it is ready
		}
		of, err := lifecycle.ColumnByID(ctx, tx, x.Column)
		if err != nil {
			return err
		}
		c, err := find(ctx, tx, standing.Name{Schema: of.Table.Schema, Table: of.Table.Name, Column: of.Source})
		if err != nil {
			return err
		}
		list, err := standingOf(ctx, tx, c, ddl.TokenListName(id))
		if err != nil || list == BuiltValid {
			return err
		}
		_, tokens, err := place(ctx, tx, c, x)
		if err != nil || tokens == "" {
			return err
		}
		key, err := c.key(ctx, tx)
		column, step, wanted = x.Column, c.steps(x, tokens, key.Names()).List(), err == nil
		return err
	})
	return column, step, wanted, err
}
