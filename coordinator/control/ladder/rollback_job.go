package ladder

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Reverse plans the job that opens the cells of a column that is cut over into its plaintext, where that fell behind.
// It alters nothing.
func Reverse(ctx context.Context, db *pg.DB, kek cell.KEK, r messages.StartRequest) (plan preflight.Plan, column work.Column, err error) {
	if err := r.Validate(); err != nil {
		return plan, column, err
	}
	var s standing.Standing
	err = standing.Reading(ctx, db, "30s", func(tx pg.Tx) (err error) {
		if s, err = standing.Find(ctx, tx, standing.Name{Schema: cmp.Or(r.Schema, "public"), Table: r.Table, Column: r.Columns[0].Source}); err != nil {
			return err
		}
		if err = checkReversible(s); err != nil {
			return err
		}
		if err = s.CheckOpenable(ctx, tx); err != nil {
			return err
		}
		plan, err = jobOverCells(ctx, tx, s, s.Plain, r.UserTriggers)
		return err
	})
	if err != nil {
		return preflight.Plan{}, column, err
	}
	keys, err := lifecycle.LoadKeys(ctx, db, kek, s.ID)
	if err != nil {
		return preflight.Plan{}, column, err
	}
	scheme, has := keys.Active[s.ID]
	if !has {
		return preflight.Plan{}, column, standing.Refuse("columns", "cipherfleet history shows what was done to it", "column %q of %s has no key", s.Source, s.Relation.Table())
	}
	column = reverseColumn(s, scheme.Number)
	column.Origin, err = s.OriginBack(ctx, db, false)
	return plan, column, err
}

// reverseColumn is the column as a job in reverse knows it.
func reverseColumn(s standing.Standing, scheme uint16) work.Column {
	return work.Column{ID: s.ID, Source: s.Plain.Name, Target: s.Sealed.Name, SourceAttnum: s.SourceNum, TargetAttnum: s.TargetNum,
		Scheme: scheme, Reverse: true, LogTable: s.Column.Table.String(), LogColumn: s.Source}
}

// checkReversible refuses a column whose plaintext has nothing to catch up with.
func checkReversible(s standing.Standing) error {
	name := s.Relation.Table().String() + "." + s.Source
	switch {
	case s.State.Phase == lifecycle.PhaseDropped || s.Plain.Attnum == 0:
		return standing.Refuse("column", "cipherfleet decrypt brings it back, for who may", "the plaintext of %s is gone", name)
	case s.State.Phase != lifecycle.PhaseCutOver:
		return standing.Refuse("column", "cipherfleet backfill is the job for it", "%s is %s, not cut-over: its cells follow the plaintext", name, standing.PhaseWord(s.State.Phase))
	case s.Sealed.Attnum == 0:
		return standing.Refuse("column", "cipherfleet status says what is missing", "the cells of %s are gone", name)
	}
	return nil
}

const reverseIndexSQL = `SELECT i.indisvalid AND i.indisready AND i.indislive FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = $1 AND c.relname = $2`

// indexReverse makes sure that every leaf has its index on rows that have a cell and no plaintext, beside readers and
// writers; it waits for their transactions, for half a minute each. An index that a killed attempt left invalid is built
// anew.
func indexReverse(ctx context.Context, db *pg.DB, c ddl.Column, leaves []pg.Leaf) error {
	return whileIndexing(ctx, db, c, "30s", func(conn *pg.Conn) error {
		for _, leaf := range leaves {
			valid, err := pg.Values[bool](ctx, db, reverseIndexSQL, leaf.OID, c.ReverseIndexName(leaf.Named))
			step := c.ReverseUncoveredIndex(leaf.Named)
			if err == nil && slices.Contains(valid, false) {
				_, err = conn.Exec(ctx, step.Undo[0])
			}
			if err == nil && !slices.Contains(valid, true) {
				_, err = conn.Exec(ctx, step.Do[0])
			}
			if err != nil {
				return fmt.Errorf("index the rows of %s that have no plaintext: %w", leaf.Table(), err)
			}
		}
		return nil
	})
}

// unindexReverse drops those indexes: the rollback is refused, and nothing is to be left of it.
func unindexReverse(ctx context.Context, db *pg.DB, c ddl.Column, leaves []pg.Leaf) error {
	return whileIndexing(ctx, db, c, "30s", func(conn *pg.Conn) error {
		for _, leaf := range leaves {
			if _, err := conn.Exec(ctx, c.ReverseUncoveredIndex(leaf.Named).Undo[0]); err != nil {
				return fmt.Errorf("drop an index of %s: %w", leaf.Table(), err)
			}
		}
		return nil
	})
}

// whileIndexing hands out a connection that waits so long for others' transactions, while nobody else indexes the column. A
// deadlock is no end: f is done again.
func whileIndexing(ctx context.Context, db *pg.DB, c ddl.Column, patience string, f func(*pg.Conn) error) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx)) // with its settings
	const limitsSQL = `SELECT pg_catalog.set_config('lock_timeout', $1, false), pg_catalog.set_config('statement_timeout', '0', false)`
	if _, err := conn.Exec(ctx, limitsSQL, patience); err != nil {
		return err
	}
	if err := standing.IndexTurn(ctx, conn, c.ID); err != nil {
		return err
	}
	return standing.Undeadlocked(ctx, func() error { return f(conn) })
}
