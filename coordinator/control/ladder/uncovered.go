package ladder

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Steps is the column under today's names, with the key that its cells are bound to.
func Steps(ctx context.Context, q pg.Querier, s standing.Standing) (ddl.Column, error) {
	key, err := keyOf(ctx, q, s)
	c := s.DDL()
	c.Key = key
	return c, err
}

// keyOf is the key of the column's last job; without one, or where it was renamed since, the table's own.
func keyOf(ctx context.Context, q pg.Querier, s standing.Standing) ([]string, error) {
	job, err := work.Newest(ctx, q, s.ID)
	if err == nil {
		if _, found := s.Relation.KeyOf(job.Spec.Key); found {
			return job.Spec.Key, nil
		}
	} else if !errors.Is(err, work.ErrNoJob) {
		return nil, err
	}
	key, found := s.Relation.UsableKey()
	if !found {
		return nil, standing.Refuse("key", preflight.KeyHint, "%s has no unique index that finds every row", s.Relation.Table())
	}
	return key.Names(), nil
}

// indexStateSQL is whether the index is there, and whether it may be used.
const indexStateSQL = `SELECT i.indisvalid AND i.indisready AND i.indislive FROM pg_catalog.pg_index i
 JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE i.indrelid = $1 AND n.nspname = $2 AND c.relname = $3`

// hasUncoveredIndex says whether the leaf's index on uncovered rows is there, and whether it is usable.
func hasUncoveredIndex(ctx context.Context, q pg.Querier, c ddl.Column, leaf pg.Named) (there, valid bool, err error) {
	err = q.QueryRow(ctx, indexStateSQL, leaf.OID, leaf.Schema, c.UncoveredIndexName(leaf)).Scan(&valid)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	return err == nil, valid, err
}

// indexUncovered makes sure that every leaf has its index on uncovered rows, beside readers and writers and outside of
// any transaction. An index that a killed attempt left invalid is built anew.
func indexUncovered(ctx context.Context, db *pg.DB, c ddl.Column, leaves []pg.Leaf) error {
	if !c.Indexable() {
		return nil
	}
	return whileIndexing(ctx, db, c, "0", func(conn *pg.Conn) error {
		for _, leaf := range leaves {
			there, valid, err := hasUncoveredIndex(ctx, db, c, leaf.Named)
			step := c.UncoveredIndex(leaf.Named)
			if err == nil && there && !valid {
				_, err = conn.Exec(ctx, step.Undo[0])
			}
			if err == nil && !valid {
				_, err = conn.Exec(ctx, step.Do[0])
			}
			if err != nil {
				return fmt.Errorf("index the uncovered rows of %s: %w", leaf.Table(), err)
			}
		}
		return nil
	})
}

// errUnindexed says that a leaf has no usable index on uncovered rows: it is new.
var errUnindexed = errors.New("a partition has no index on uncovered rows yet")

// errUncovered says that a row is uncovered.
var errUncovered = errors.New("a row is uncovered")

// covered is nil if no row is uncovered, by the leaves' indexes alone: under a lock nobody waits for a scan. Otherwise
// it is errUncovered or errUnindexed. For the rest of the transaction tables are read by indexes where that can be done.
func covered(ctx context.Context, tx pg.Tx, c ddl.Column, leaves []pg.Leaf) error {
	if !c.Indexable() {
		return followed(ctx, tx, c)
	}
	if _, err := tx.Exec(ctx, `SELECT set_config('enable_seqscan', 'off', true)`); err != nil { // whatever the planner believes of a table that grew
		return err
	}
	for _, leaf := range leaves {
		_, valid, err := hasUncoveredIndex(ctx, tx, c, leaf.Named)
		switch {
		case err != nil:
			return err
		case !valid:
			return errUnindexed
		}
		some := false
		if err := tx.QueryRow(ctx, c.Uncovered(leaf.Named)).Scan(&some); err != nil {
			return fmt.Errorf("look for uncovered rows of %s: %w", leaf.Table(), err)
		}
		if some {
			return errUncovered
		}
	}
	return nil
}
