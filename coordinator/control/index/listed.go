package index

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// mostListed rows without a token are filled from their list; more are shared out, and met while the table is walked.
const mostListed = 50_000

// mindTheList has the planner take the index of the rows without a token: it thinks that half of the rows are some.
func mindTheList(ctx context.Context, tx pg.Querier) error {
	_, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('enable_seqscan', 'off', true)`)
	return err
}

// hasLists says that indexes hold the rows without a token, of every partition, and has the planner take them.
func (c column) hasLists(ctx context.Context, tx pg.Querier, steps ddl.Token) (bool, error) {
	missing, err := unlisted(ctx, tx, parts(c.Relation, steps))
	if err != nil || len(missing) > 0 {
		return false, err
	}
	return true, mindTheList(ctx, tx)
}

// listed says that few rows lack their token, and indexes hold them: a job need not walk the table.
func (c column) listed(ctx context.Context, q pg.Querier, steps ddl.Token) (bool, error) {
	has, err := c.hasLists(ctx, q, steps)
	if err != nil || !has {
		return false, err
	}
	rows := 0
	for _, one := range parts(c.Relation, steps) {
		n := 0
		if err := q.QueryRow(ctx, one.Listed(), mostListed+1-rows).Scan(&n); err != nil {
			return false, fmt.Errorf("count rows without a token: %w", err)
		}
		if rows += n; rows > mostListed {
			return false, nil
		}
	}
	return true, nil
}
