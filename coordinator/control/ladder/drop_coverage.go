package ladder

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// hasCoverageSQL is how the constraint stands: there or not, of the right meaning, validated.
func hasCoverageSQL() string {
	return `SELECT count(*) > 0, coalesce(bool_and(` + ddl.CoverageMeaning("$3::text", "$4::text") + `), false), coalesce(bool_and(k.convalidated), false)
 FROM pg_catalog.pg_constraint k WHERE k.conrelid = $1 AND k.contype = 'c' AND k.conname = $2`
}

// ProveCoverage proves that every plaintext has its cell, by a constraint that keeps it so until the plaintext is gone:
// added without reading a row, then validated beside readers and writers. Rows that break it are an error with exit code
// 5 that counts them, and the constraint is taken away again. Killed in between it leaves a constraint that is not
// validated, which a second call, or a rollback, deals with.
func (l *Ladder) ProveCoverage(ctx context.Context, d Drop, n standing.Name) error {
	return l.explained(ctx, d.Standing, l.proveCoverage(ctx, d, n))
}

func (l *Ladder) proveCoverage(ctx context.Context, d Drop, n standing.Name) error {
	column := d.column()
	proven, err := l.addCoverage(ctx, d, column)
	if err != nil || proven {
		return err
	}
	// without keeping jobs away: it takes as long as reading the table
	err = standing.Patiently(ctx, l.DB, func(tx pg.Tx) error { return run(ctx, tx, column.ValidateCoverage()) })
	if pg.Code(err) != checkViolation {
		return standing.Settled(d.Standing, err)
	}
	rows, countErr := l.countUncelled(ctx, column)
	err = l.alone(ctx, d.Standing, func(tx pg.Tx) error { return standing.Alone(ctx, tx, column.Table, column.Coverage().Undo...) })
	if err = errors.Join(countErr, err); err != nil {
		return err
	}
	return uncelled(d, rows, n)
}

func (l *Ladder) addCoverage(ctx context.Context, d Drop, column ddl.Column) (proven bool, err error) {
	err = l.alone(ctx, d.Standing, func(tx pg.Tx) error {
		there, right := false, false
		err := tx.QueryRow(ctx, hasCoverageSQL(), d.Relid, ddl.CoverageName(d.ID), d.Plain.Name, d.Sealed.Name).Scan(&there, &right, &proven)
		if err != nil {
			return fmt.Errorf("look for constraint %s: %w", ddl.CoverageName(d.ID), err)
		}
		if right {
			return nil
		}
		proven = false
		if there {
			if err := standing.Alone(ctx, tx, column.Table, column.Coverage().Undo...); err != nil {
				return err
			}
		}
		return standing.Alone(ctx, tx, column.Table, column.Coverage().Do...)
	})
	return proven, err
}

func (l *Ladder) countUncelled(ctx context.Context, column ddl.Column) (rows int64, err error) {
	err = standing.Reading(ctx, l.DB, "0", func(tx pg.Tx) error { return tx.QueryRow(ctx, column.Uncelled()).Scan(&rows) })
	if err != nil {
		return 0, fmt.Errorf("count rows without a cell: %w", err)
	}
	return rows, nil
}

// alone changes the table while the column stands where s says and no job is at work, and appends no event.
func (l *Ladder) alone(ctx context.Context, s standing.Standing, f func(pg.Tx) error) error {
	return standing.Settled(s, standing.Patiently(ctx, l.DB, func(tx pg.Tx) error {
		if err := l.hold(ctx, tx, s); err != nil {
			return err
		}
		return f(tx)
	}))
}
