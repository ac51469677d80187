package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// keeper looks after what a leader has finished: until its cutover a column may miss writes, which are swept again, and
// their record is kept small. It lives as long as one lead, and is not for several goroutines.
type keeper struct {
	plane   *Plane
	paces   map[string]*pace // by job
	rolled  time.Time
	looked  time.Time
	build   *build
	refused map[string]time.Time // indexes that could not be built
	fills   map[uint32]*pace     // by blind index
	nulls   map[uint32]bool      // columns of the job in hand whose scheme seals NULL
}

// pace is how often a job sweeps its table again. While that goes on missing writes, the pauses between sweeps grow: the log
// remembers each of them.
type pace struct {
	due   time.Time
	pause time.Duration
	known bool  // seen is known
	seen  int64 // writes on record when it was swept last
}

// CatchUpEvery is how soon a coordinator of a fleet sweeps a table again.
const CatchUpEvery = 10 * time.Second

const longestPause = 5 * time.Minute

func (p *Plane) keeper() *keeper {
	return &keeper{plane: p, paces: map[string]*pace{}, refused: map[string]time.Time{}, fills: map[uint32]*pace{}}
}

// look does what is due. One table's trouble does not keep the others.
func (k *keeper) look(ctx context.Context) error {
	var trouble error
	if time.Since(k.rolled) >= rollupEvery {
		k.rolled = time.Now()
		trouble = errors.Join(k.plane.rollup(ctx), k.plane.prune(ctx))
	}
	if k.plane.CatchUp == 0 || time.Since(k.looked) < k.plane.CatchUp {
		return trouble
	}
	k.looked = time.Now()
	jobs, err := k.plane.jobs().Idle(ctx)
	if err != nil {
		return errors.Join(trouble, err)
	}
	for _, job := range jobs {
		if err := k.tend(ctx, job); err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("look after what job %s has covered: %w", job.ID, err))
		}
	}
	return errors.Join(trouble, k.apart(ctx), k.fill(ctx))
}

// tend sweeps the table of a job that is done, if rows have become uncovered since.
func (k *keeper) tend(ctx context.Context, job work.Job) error {
	now, at := time.Now(), k.paces[job.ID]
	if at == nil {
		at = &pace{}
		k.paces[job.ID] = at
	}
	if now.Before(at.due) {
		return nil
	}
	leaves, err := k.leaves(ctx, job)
	if err != nil {
		return err
	}
	missed, found, err := k.evidence(ctx, job, leaves, at)
	if err != nil {
		return err
	}
	if !found {
		at.pause, at.seen = 0, min(at.seen, missed)
		return nil
	}
	began, err := k.sweep(ctx, job, leaves)
	if began {
		at.pause = min(max(2*at.pause, k.plane.CatchUp), longestPause)
		at.due, at.known, at.seen = now.Add(at.pause), true, missed
	}
	return err
}

// sweep begins a sweep, unless the job cannot: another one over its table is at work, or a column was moved.
func (k *keeper) sweep(ctx context.Context, job work.Job, leaves []leaf) (began bool, err error) {
	ctx, span := k.plane.Tracer.Start(withParent(ctx, job.TraceParent), "sweep again")
	defer span.End()
	var all, indexed []uint32
	for _, l := range leaves {
		all = append(all, l.OID)
		if l.indexed && len(job.Spec.Columns) == 1 { // no index holds the rows that lack one of several cells in the order of the key
			indexed = append(indexed, l.OID)
		}
	}
	_, err = k.plane.jobs().CatchUp(ctx, job.ID, all, indexed)
	for _, moved := range []error{work.ErrState, work.ErrBusy, work.ErrSuperseded, work.ErrNotReady} {
		if errors.Is(err, moved) {
			return false, nil
		}
	}
	if err != nil {
		return false, err
	}
	k.plane.Log.InfoContext(ctx, "writes missed a column since; its table is swept again", "job", job.ID)
	k.plane.lead.wake()
	k.index(ctx, job, leaves)
	return true, nil
}

// leaf is a relation that holds rows of a job's table.
type leaf struct {
	pg.Named
	indexed bool // each of the job's columns has an index of its uncovered rows there
}

const namedLeavesSQL = `SELECT c.oid, n.nspname::text, c.relname::text, ARRAY(SELECT i.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  WHERE x.indrelid = c.oid AND x.indisvalid AND x.indpred IS NOT NULL)
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1)))`

// leaves takes the job in hand.
func (k *keeper) leaves(ctx context.Context, job work.Job) ([]leaf, error) {
	ids := make([]uint32, len(job.Spec.Columns))
	for i, c := range job.Spec.Columns {
		ids[i] = c.ID
	}
	var err error
	if k.nulls, err = standing.SealingNulls(ctx, k.plane.DB, ids...); err != nil {
		return nil, err
	}
	rows, err := k.plane.DB.Query(ctx, namedLeavesSQL, job.Relation)
	if err != nil {
		return nil, err
	}
	leaves, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l leaf, err error) {
		var valid []string
		if err := row.Scan(&l.OID, &l.Schema, &l.Name, &valid); err != nil {
			return l, err
		}
		l.indexed = true
		for _, c := range k.stepsOf(job) {
			l.indexed = l.indexed && c.Indexable() && slices.Contains(valid, c.UncoveredIndexName(l.Named))
		}
		return l, nil
	})
	return leaves, pg.Safe(err)
}

// stepsOf are the job's columns as package ddl takes them.
func (k *keeper) stepsOf(job work.Job) []ddl.Column {
	list := make([]ddl.Column, len(job.Spec.Columns))
	for i, c := range job.Spec.Columns {
		list[i] = ddl.Column{ID: c.ID, Table: pg.Table{Schema: job.Spec.Schema, Name: job.Spec.Table}, Source: c.Source, Target: c.Target, Key: job.Spec.Key, Beside: c.Origin.Names(), Expression: c.Expression, Where: c.Where, Nulls: k.nulls[c.ID]}
	}
	return list
}

// recordSQL adds up the writes that missed columns $1, and says whether one of them came after the job's last start, and
// whether the column of the log still stands where the job took it.
const recordSQL = `SELECT coalesce(sum(m.writes), 0)::bigint, coalesce(max(m.at) > (SELECT max(e.created_at) FROM cipherfleet.events e
  WHERE e.table_name = $2 AND e.column_name = $3 AND e.event = 'backfill_started' AND e.job_id = $4), false),
 coalesce((SELECT e.phase = 'backfilled' FROM cipherfleet.events e WHERE e.table_name = $2 AND e.column_name = $3 ORDER BY e.id DESC LIMIT 1), false)
 FROM cipherfleet.missed_writes m WHERE m.column_id = ANY($1)`

// evidence says how many writes are on record, and whether rows have become uncovered. Where every leaf has its index
// that is looked at, and holds the truth; elsewhere the record must do.
func (k *keeper) evidence(ctx context.Context, job work.Job, leaves []leaf, at *pace) (missed int64, found bool, err error) {
	var ids []int64
	for _, c := range job.Spec.Columns {
		ids = append(ids, int64(c.ID))
	}
	first, later, stands := job.Spec.Columns[0], false, false
	err = k.plane.DB.QueryRow(ctx, recordSQL, ids, first.LogTable, first.LogColumn, job.ID).Scan(&missed, &later, &stands)
	if err != nil {
		return 0, false, fmt.Errorf("look for missed writes: %w", err)
	}
	if !stands {
		return missed, false, nil
	}
	if len(leaves) > 0 && !slices.ContainsFunc(leaves, func(l leaf) bool { return !l.indexed }) {
		found, err = k.uncovered(ctx, job, leaves)
		return missed, found, err
	}
	if at.known {
		return missed, missed > at.seen, nil
	}
	return missed, later, nil
}

const probeTimeout = "5s"

// uncovered looks into the indexes. The planner takes half of the rows for uncovered, and would begin to read the table.
func (k *keeper) uncovered(ctx context.Context, job work.Job, leaves []leaf) (found bool, err error) {
	err = standing.Reading(ctx, k.plane.DB, probeTimeout, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('enable_seqscan', 'off', true)`); err != nil {
			return err
		}
		for _, l := range leaves {
			for _, c := range k.stepsOf(job) {
				if err := tx.QueryRow(ctx, c.Uncovered(l.Named)).Scan(&found); err != nil || found {
					return err
				}
			}
		}
		return nil
	})
	switch pg.Code(err) {
	case "42703", "42P01": // renamed: the job could not go on either, and status says so
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for uncovered rows: %w", err)
	}
	return found, nil
}
