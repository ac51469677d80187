package status

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Coverage is how many rows of a column are covered. Total, covered and uncovered are of one moment.
type Coverage struct {
	Total       int64     `json:"total"`
	Covered     int64     `json:"covered"`
	Uncovered   int64     `json:"uncovered"`
	Behind      *int64    `json:"plaintext_behind"`           // rows whose cell has no plaintext: what a rollback would decrypt first; null: before a cutover, or not counted
	Outside     int64     `json:"outside,omitempty"`          // rows without a cell that need none, by the condition of the column; not in the total
	OutsideIn   bool      `json:"outside_in_total,omitempty"` // nobody could ask the condition: they are counted in the total, and as covered by whoever passed them
	Quarantined int64     `json:"quarantined"`                // of the uncovered; by the last job
	Stale       *int64    `json:"stale"`                      // null: only a verification can tell, and none counts any more
	Exact       bool      `json:"exact"`                      // every row was counted; else it is an estimate
	AsOf        time.Time `json:"as_of"`
}

// SchemeRows is how many cells are of one scheme.
type SchemeRows struct {
	Number int    `json:"number"`
	Rows   int64  `json:"rows"`
	Bound  string `json:"bound_to,omitempty"` // the columns that its cells are bound to instead of the row's key
}

const (
	countedPages   = 512 // a table of no more pages is counted at once: 4 MiB
	sampledPages   = 512 // of a larger one
	sampleTimeout  = "5s"
	withoutTimeout = "0"
	countedAtOnce  = 50 // columns in one statement
)

// Covering says how rows are counted. The zero one estimates by what the last jobs asked for.
type Covering struct {
	Exact  bool          // every row is read
	Wanted bool          // by the manifest's conditions, as far as they are known
	Read   ReadCondition // nil: what a manifest's condition means is not looked at
}

// Cover counts, or estimates by the best that may be read cheaply: a sample of the table, else the progress of the job.
// Before that it finds the columns' conditions.
func Cover(ctx context.Context, db *pg.DB, looks []*Look, r Covering) error {
	if err := settleConditions(ctx, db, looks, r.Read); err != nil {
		return err
	}
	var sampled []*Look
	for _, l := range looks {
		l.wanting = r.Wanted
		if f, has := l.Survey.found[l.Column.ID]; has && l.Status.Verified != nil {
			l.Status.Coverage.Stale = &f.Stale
		}
		switch {
		case l.Column.ID == 0 || l.Plain.Attnum == 0 && l.State.Phase != lifecycle.PhaseDropped || l.Sealed.Attnum == 0:
			l.byProgress()
		case r.Exact:
			if err := l.counts(100).run(ctx, db, withoutTimeout); err != nil {
				return fmt.Errorf("read the status of %s.%s: %w", l.Table, l.Column.Source, err)
			}
		case !l.mayRead():
			l.byProgress()
		default:
			sampled = append(sampled, l)
		}
	}
	for some := range slices.Chunk(sampled, countedAtOnce) {
		if err := sample(ctx, db, some); err != nil {
			return err
		}
	}
	return nil
}

// sample looks at many columns with one statement. If somebody holds a table, or it is slow, they are looked at one by
// one, and where that does not help either, the job's progress has to do.
func sample(ctx context.Context, db *pg.DB, looks []*Look) error {
	var all counts
	for _, l := range looks {
		percent := 100.0
		if pages := l.Relation.Pages(); pages > countedPages {
			percent = 100 * sampledPages / float64(pages)
		}
		all = append(all, l.counts(percent)...)
	}
	err := all.run(ctx, db, sampleTimeout)
	if err == nil || ctx.Err() != nil {
		return err
	}
	for _, one := range all {
		if err := (counts{one}).run(ctx, db, sampleTimeout); err != nil {
			if ctx.Err() != nil {
				return err
			}
			one.look.byProgress()
		}
	}
	return nil
}

func (l *Look) mayRead() bool {
	return (l.Plain.MaySelect || l.Plain.Attnum == 0) && l.Sealed.MaySelect && l.Relation.Privileges.Schema && !l.Relation.RowSecurity.Applies
}

// countSQL groups rows by what stands in the target and in the source, and by the scheme of the cell; 0 is a target
// without a cell of ours. Of a cell only the header is read.
const (
	countSQL = `SELECT %[1]d, %[3]s AS sealed, %[2]s AS plain, %[4]s AS scheme, %[7]s AS outside, count(*), clock_timestamp() FROM %[5]s t%[6]s GROUP BY 2, 3, 4, 5`
	headSQL  = `CASE WHEN %[1]s OR %[2]s IS NULL THEN 0 ELSE get_byte(%[3]s, 0) * 256 + get_byte(%[3]s, 1) END`
)

// count is one column to count rows of.
type count struct {
	look    *Look
	percent float64
}

type counts []count

func (l *Look) counts(percent float64) counts { return counts{{l, percent}} }

func (c count) sql(number int) string {
	l, sample, scheme := c.look, "", "0"
	from := "ONLY " + l.Table.SQL()
	if l.Relation.IsPartitioned {
		from = l.Table.SQL()
	}
	if c.percent < 100 {
		sample = fmt.Sprintf(" TABLESAMPLE SYSTEM (%f) REPEATABLE (1)", c.percent) // the same pages each time: no number flickers
	}
	if form := ddl.FormOf(l.Sealed); !l.foreign() && (form != cell.FormBytes || l.Sealed.TypeOID == pgtype.ByteaOID) {
		sealed := "t." + pg.Ident(l.Sealed.Name)
		scheme = fmt.Sprintf(headSQL, ddl.Foreign(sealed, form, l.Column.ID), sealed, ddl.Scheme(sealed, form))
	}
	plain := "t." + pg.Ident(l.Plain.Name)
	if l.Plain.Attnum == 0 { // dropped: a row without a cell has nothing to cover
		plain = "t." + pg.Ident(l.Sealed.Name)
	}
	sealed := "t." + pg.Ident(l.Sealed.Name) + " IS DISTINCT FROM NULL"
	plain += " IS DISTINCT FROM NULL"
	if l.made() {
		sealed, plain, scheme = l.madeSQL(sealed, plain)
	}
	return fmt.Sprintf(countSQL, number, plain, sealed, scheme, from, sample, l.Condition.outside(l.ddl(), sealed, l.wanting))
}

// madeSQL is the same where an expression makes the values: a row counts as sealed if it is done. After a cutover, when
// nothing makes them any more, only what was written since has no source.
func (l *Look) madeSQL(target, source string) (sealed, plain, scheme string) {
	switch l.State.Phase {
	case lifecycle.PhaseDualWriting, lifecycle.PhaseBackfilling, lifecycle.PhaseBackfilled:
		if l.expression() != nil {
			return "NOT (" + l.ddl().Undone("t") + ")", "true", "0"
		}
	case lifecycle.PhaseCutOver, lifecycle.PhaseDropped:
		return "true", source + " OR NOT (" + target + ")", "0"
	}
	return "false", "true", "0"
}

// group is one row of countSQL.
type group struct {
	sealed, plain bool
	outside       bool
	scheme        int
	rows          int64
	at            time.Time
}

// run counts, in one statement, and puts the results in.
func (cs counts) run(ctx context.Context, db *pg.DB, timeout string) error {
	parts, groups := make([]string, len(cs)), make([][]group, len(cs))
	for i, c := range cs {
		parts[i] = "(" + c.sql(i) + ")"
	}
	err := standing.Reading(ctx, db, timeout, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, pg.Pinned); err != nil { // an expression may make another value under other settings
			return err
		}
		rows, err := tx.Query(ctx, strings.Join(parts, "\nUNION ALL "))
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (i int, err error) {
			var g group
			err = row.Scan(&i, &g.sealed, &g.plain, &g.scheme, &g.outside, &g.rows, &g.at)
			groups[i] = append(groups[i], g)
			return i, err
		})
		return pg.Safe(err)
	})
	if err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	for i, c := range cs {
		if len(groups[i]) == 0 && c.percent < 100 {
			c.look.byProgress()
			continue
		}
		c.look.add(groups[i], c.percent)
	}
	return nil
}

// add turns groups of rows, counted or sampled, into the coverage.
func (l *Look) add(groups []group, percent float64) {
	c, seen, behind := &l.Status.Coverage, int64(0), int64(0)
	l.Counted, c.AsOf = true, l.Survey.At
	for _, g := range groups {
		seen, c.AsOf = seen+g.rows, g.at
	}
	c.Total, c.Exact = seen, percent == 100
	if !c.Exact {
		c.Total = l.rows(int64(float64(seen)/percent*100), sampledOff)
	}
	schemes := map[int]int64{}
	for _, g := range groups {
		rows := g.rows
		if !c.Exact {
			rows = int64(math.Ceil(float64(g.rows) / float64(seen) * float64(c.Total))) // one row that was seen is not none
		}
		if g.outside {
			c.Outside += rows
			continue
		}
		reverse := g.sealed && !g.plain && l.State.Phase == lifecycle.PhaseCutOver
		if reverse {
			behind += rows
		}
		if g.sealed && g.plain {
			l.paired += g.rows
		}
		switch {
		case l.sealsNulls() && !g.sealed, !l.sealsNulls() && g.sealed != g.plain && !reverse:
			c.Uncovered += rows
		case g.scheme > 0:
			schemes[g.scheme] += rows
		}
	}
	if l.State.Phase == lifecycle.PhaseCutOver {
		c.Behind = &behind
	}
	c.Outside = min(c.Outside, c.Total) // shares are estimated apart, each rounded up
	c.Total -= c.Outside
	c.Uncovered = min(c.Uncovered, c.Total)
	c.Covered = c.Total - c.Uncovered
	for number, rows := range schemes {
		l.Status.Schemes = append(l.Status.Schemes, l.schemeRows(number, min(rows, c.Covered)))
	}
	slices.SortFunc(l.Status.Schemes, func(a, b SchemeRows) int { return cmp.Compare(a.Number, b.Number) })
}

// How many times more or less rows there may be than by an estimate: of a sample, which counts rows that are there; of the
// table's size, which has more pages than rows after it was rewritten.
const (
	sampledOff = 1.5
	sizedOff   = 4
)

// rows is the number of rows by whoever has counted them, if that is anywhere near an estimate: the last job, if it is
// fresh, else the server while they came and went, which after a crash or an upgrade counts from nothing. A job that wrote
// more rows than it was said to find knows that there are as many at least.
func (l *Look) rows(estimate int64, off float64) int64 {
	total, written := l.countedByJob()
	if off == sizedOff && total >= written && total > 0 && float64(total) <= float64(estimate)*off {
		return total // however often its rows were written since
	}
	live := l.Survey.live[l.Relation.OID]
	if off == sizedOff && !live.grown && live.rows > estimate {
		live.rows = 0 // rows that came in the transaction of the ANALYZE, or its session's last, are counted twice
	}
	for _, counted := range []int64{total, live.rows} {
		if counted > 0 && counted >= written && float64(counted) >= float64(estimate)/off && float64(counted) <= float64(estimate)*off {
			return counted
		}
	}
	if off == sizedOff && written > total {
		return written
	}
	return estimate
}

const countStays = time.Hour // for which a job that is over goes on telling how many rows there are

// countedByJob is how many rows the table was thought to have when the last job began, and how many that wrote. 0: there is
// none, or it is long over, or statistics were taken since.
func (l *Look) countedByJob() (total, written int64) {
	job, has := l.Survey.Jobs[l.Column.ID]
	run, analyzed := l.State.Run, l.Survey.live[l.Relation.OID].analyzed
	switch {
	case !has || run.Job != job.ID || analyzed != nil && analyzed.After(run.Started):
		return 0, 0
	case !run.Ended.IsZero() && l.Survey.At.Sub(run.Ended) > countStays:
		return 0, 0
	}
	return job.Total, l.Survey.passed[job.ID].written
}

// byProgress takes what the last job passed for covered, and the rows of the catalog's statistics for all. Without a
// target nothing is covered, and without a plaintext there is nothing left to cover.
func (l *Look) byProgress() {
	c := &l.Status.Coverage
	c.Total, c.AsOf = l.rows(l.Relation.Rows(), sizedOff), l.Survey.At
	job, has := l.Survey.Jobs[l.Column.ID]
	switch {
	case l.State.Phase == lifecycle.PhaseDropped, l.State.Phase == lifecycle.PhaseCutOver && l.Sealed.Attnum != 0:
		c.Covered = c.Total
		return
	case !has || l.Gone || l.Sealed.Attnum == 0:
		c.Uncovered = c.Total
		return
	}
	if at := slices.IndexFunc(job.Spec.Columns, func(c work.Column) bool { return c.ID == l.Column.ID }); job.Spec.Columns[at].Rotate {
		l.byPhase()
		return
	}
	p := l.Survey.passed[job.ID]
	c.OutsideIn = l.last() != nil
	switch {
	case job.State == work.Done:
		c.Covered = c.Total
	case p.all > 0:
		c.Covered = min(c.Total, int64(float64(c.Total)*float64(p.done)/float64(p.all))+p.rows)
	}
	c.Covered = max(0, c.Covered-c.Quarantined)
	c.Uncovered = c.Total - c.Covered
	for _, column := range job.Spec.Columns {
		if column.ID == l.Column.ID && c.Covered > 0 && !c.OutsideIn {
			l.Status.Schemes = append(l.Status.Schemes, l.schemeRows(int(column.Scheme), c.Covered))
		}
	}
}

// byPhase is for a column whose last job sealed its cells anew, which says nothing of rows without a cell.
func (l *Look) byPhase() {
	c := &l.Status.Coverage
	c.OutsideIn = l.last() != nil
	if l.State.Phase == lifecycle.PhaseBackfilled {
		c.Covered = max(0, c.Total-c.Quarantined)
	}
	c.Uncovered = c.Total - c.Covered
}
