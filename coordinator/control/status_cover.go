package control

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Coverage is how many rows of a column are covered. Total, covered and uncovered are of one moment.
type Coverage struct {
	Total       int64     `json:"total"`
	Covered     int64     `json:"covered"`
	Uncovered   int64     `json:"uncovered"`
	Quarantined int64     `json:"quarantined"` // of the uncovered; by the last job
	Stale       *int64    `json:"stale"`       // null: only a verification can tell, and none counts any more
	Exact       bool      `json:"exact"`       // every row was counted; else it is an estimate
	AsOf        time.Time `json:"as_of"`
}

// SchemeRows is how many cells are of one scheme.
type SchemeRows struct {
	Number int   `json:"number"`
	Rows   int64 `json:"rows"`
}

const (
	countedPages   = 512 // a table of no more pages is counted at once: 4 MiB
	sampledPages   = 512 // of a larger one
	sampleTimeout  = "5s"
	withoutTimeout = "0"
)

// cover counts, or estimates by the best that may be read cheaply: a sample of the table, else the progress of the job.
func (l *look) cover(ctx context.Context) error {
	l.status.Coverage = Coverage{Quarantined: l.quarantined}
	if l.found != nil && l.status.Verified != nil {
		l.status.Coverage.Stale = &l.found.Stale
	}
	if l.source.Attnum == 0 || l.target.Attnum == 0 || l.target.TypeOID != byteaOID {
		return l.byProgress(ctx)
	}
	if l.request.Exact {
		return l.count(ctx, 100, withoutTimeout)
	}
	if !l.mayRead() {
		return l.byProgress(ctx)
	}
	percent := 100.0
	if pages := l.relation.Pages(); pages > countedPages {
		percent = 100 * sampledPages / float64(pages)
	}
	if err := l.count(ctx, percent, sampleTimeout); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return l.byProgress(ctx) // somebody holds the table, or it is slow
	}
	return nil
}

func (l *look) mayRead() bool {
	return l.source.MaySelect && l.target.MaySelect && l.relation.Privileges.Schema && !l.relation.RowSecurity.Applies
}

// countSQL groups rows by what stands in the target: whether the row is uncovered, and the scheme of the cell. Of a
// cell only the header is read.
const countSQL = `SELECT (t.%[2]s IS NULL) = (t.%[1]s IS DISTINCT FROM NULL),
 CASE WHEN octet_length(t.%[2]s) < 8 OR t.%[2]s IS NULL THEN 0 ELSE get_byte(substr(t.%[2]s, 7, 2), 0) * 256 + get_byte(substr(t.%[2]s, 7, 2), 1) END,
 count(*), clock_timestamp() FROM %[3]s t%[4]s GROUP BY 1, 2 ORDER BY 2`

// group is one row of countSQL; scheme 0 is a target without a cell.
type group struct {
	uncovered bool
	scheme    int
	rows      int64
	at        time.Time
}

func (l *look) count(ctx context.Context, percent float64, timeout string) error {
	from, sample := "ONLY "+l.relation.Table().SQL(), ""
	if l.relation.IsPartitioned {
		from = l.relation.Table().SQL()
	}
	if percent < 100 {
		sample = fmt.Sprintf(" TABLESAMPLE SYSTEM (%f) REPEATABLE (1)", percent) // the same pages each time: no number flickers
	}
	sql := fmt.Sprintf(countSQL, pg.Ident(l.source.Name), pg.Ident(l.target.Name), from, sample)
	var groups []group
	err := reading(ctx, l.db, timeout, func(tx pg.Tx) error {
		rows, err := tx.Query(ctx, sql)
		if err != nil {
			return err
		}
		groups, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g group, err error) {
			return g, row.Scan(&g.uncovered, &g.scheme, &g.rows, &g.at)
		})
		return pg.Safe(err)
	})
	if err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	if len(groups) == 0 && percent < 100 {
		return l.byProgress(ctx)
	}
	l.add(groups, percent)
	return nil
}

// add turns groups of rows, counted or sampled, into the coverage.
func (l *look) add(groups []group, percent float64) {
	c, seen := &l.status.Coverage, int64(0)
	for _, g := range groups {
		seen, c.AsOf = seen+g.rows, g.at
	}
	c.Total, c.Exact = seen, percent == 100
	if !c.Exact {
		c.Total = l.rows(int64(float64(seen) / percent * 100))
	}
	for _, g := range groups {
		rows := int64(float64(g.rows) / float64(seen) * float64(c.Total))
		switch {
		case g.uncovered:
			c.Uncovered += rows
		case g.scheme > 0:
			l.status.Schemes = append(l.status.Schemes, SchemeRows{g.scheme, rows})
		}
	}
	c.Covered = c.Total - c.Uncovered
}

// rows is the number that the server has counted while rows came and went, if that is anywhere near an estimate from
// the table's size: a table that is being rewritten has more pages than rows, and after a crash or an upgrade the
// server counts from nothing.
func (l *look) rows(estimate int64) int64 {
	if l.live >= estimate/4 && l.live <= estimate*4 {
		return l.live
	}
	return estimate
}

// passedSQL is how much of the first pass is behind the job: ranges done, ranges, rows written in the others.
const passedSQL = `SELECT count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state <> 'split'),
 coalesce(sum(rows) FILTER (WHERE state = 'pending'), 0)::bigint, clock_timestamp() FROM cipherfleet.ranges WHERE job_id = $1 AND pass = 0`

// byProgress takes what the last job passed for covered, and the rows of the catalog's statistics for all.
func (l *look) byProgress(ctx context.Context) error {
	c := &l.status.Coverage
	c.Total, c.AsOf = l.rows(l.relation.Rows()), time.Now().UTC()
	if l.job.ID == "" || l.table.gone {
		c.Uncovered = c.Total
		return nil
	}
	var done, all, rows int64
	err := reading(ctx, l.db, sampleTimeout, func(tx pg.Tx) error {
		return tx.QueryRow(ctx, passedSQL, l.job.ID).Scan(&done, &all, &rows, &c.AsOf)
	})
	if err != nil {
		return fmt.Errorf("read how far the job is: %w", err)
	}
	switch {
	case l.job.State == backfill.Done:
		c.Covered = c.Total
	case all > 0:
		c.Covered = min(c.Total, int64(float64(c.Total)*float64(done)/float64(all))+rows)
	}
	c.Covered = max(0, c.Covered-c.Quarantined)
	c.Uncovered = c.Total - c.Covered
	for _, column := range l.job.Spec.Columns {
		if column.ID == l.column.ID && c.Covered > 0 {
			l.status.Schemes = append(l.status.Schemes, SchemeRows{int(column.Scheme), c.Covered})
		}
	}
	return nil
}
