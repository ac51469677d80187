package ladder

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// present moves NOT NULL back to the plaintext, without reading a row under the lock: a CHECK holds from now on, and
// finishPresent proves it and puts NOT NULL in its place. Its undo is what is run, under the names from before the
// cutover.
func (p *RollbackPlan) present(places []standing.CutoverPlace) (step ddl.Step) {
	for _, place := range places {
		if !place.NotNull {
			continue
		}
		c := ddl.Column{ID: p.ID, Table: pg.Table{Schema: place.Schema, Name: place.Name}, Target: p.detail.SealedWas}
		step.Undo = append(step.Undo, c.Require().Undo...)
		c.Target = p.detail.PlainWas
		step.Undo = append(step.Undo, c.Present().Do...)
	}
	return step
}

// bare keeps the cells out of the plaintext that applications send to its name until they follow.
func (p *RollbackPlan) bare() ddl.Step {
	c := p.column
	c.Source = p.detail.PlainWas
	isBytes := p.Plain.Base.OID == pgtype.ByteaOID
	if p.Expression == nil && p.detail.Strategy == standing.StrategySwap && (isBytes || p.Plain.Base.Category == "S") {
		return c.Bare(isBytes)
	}
	return ddl.Step{}
}

// unfinishedSQL is where the constraint $2 stands on the column called $3: in the table $1 or its partitions, not inherited.
const unfinishedSQL = `SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_constraint k
 JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
 WHERE k.conname = $2 AND k.contypid = 0 AND k.coninhcount = 0 AND a.attname = $3
  AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1)))`

// finishPresent makes the plaintext NOT NULL where a rollback, this one or one that was killed, left a CHECK in its place.
func (l *Ladder) finishPresent(ctx context.Context, s standing.Standing) error {
	name := ""
	err := l.DB.QueryRow(ctx, `SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum = $2`, s.Relid, s.SourceNum).Scan(&name)
	if err != nil {
		return fmt.Errorf("find the plaintext: %w", err)
	}
	tables, err := pg.Collect(ctx, l.DB, unfinishedSQL, pgx.RowToStructByPos[pg.Table], s.Relation.OID, ddl.PresentName(s.ID), name)
	if err != nil {
		return fmt.Errorf("look for constraints: %w", err)
	}
	for _, table := range tables {
		c := ddl.Column{ID: s.ID, Table: table, Target: name}
		err := standing.Patiently(ctx, l.DB, func(tx pg.Tx) error { return run(ctx, tx, c.ValidatePresent()) })
		if err == nil {
			err = standing.Patiently(ctx, l.DB, func(tx pg.Tx) error { return standing.Alone(ctx, tx, table, c.Require().Do...) })
		}
		if err != nil {
			return standing.Settled(s, fmt.Errorf("make %s of %s NOT NULL: %w", name, table, err))
		}
	}
	return nil
}
