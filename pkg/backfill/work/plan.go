package work

import (
	"cmp"
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Planner cuts a table into ranges of about equal numbers of rows. Nothing of it grows with the table: the boundaries
// are found and stored inside Postgres.
type Planner struct {
	Jobs      *Jobs
	RangeRows int64 // rows a range should have; default: a fortieth of the table, at least 10 000, at most 100 000
	HopPages  int64 // leaves up to so many pages are cut exactly, by index probes at equal distances; default: half a gigabyte
}

const (
	fewestRangeRows = 10_000
	mostRangeRows   = 100_000
	rangesWanted    = 40     // of a small table, so that several workers share it and a kill costs little
	hopPages        = 65_536 // of 8 kB each
	samplePages     = 2_000  // of a larger leaf at least so many pages are sampled
	samplesPerRange = 100    // at least, so that ranges come out about equal
)

// patient lets the cutting of a large table take its time, whatever the database's default is.
const patient = "SET LOCAL statement_timeout = 0"

// Plan writes the job's ranges, its backfill_started and its state running, all in one transaction. A job that is
// planned already is returned as it is.
func (p *Planner) Plan(ctx context.Context, id string, relation pg.Relation) (Job, error) {
	var job Job
	err := p.Jobs.change(ctx, func(tx pg.Tx) (err error) {
		if job, err = jobBy(ctx, tx, "WHERE id::text = $1 FOR UPDATE", id); err != nil || job.State != Planning {
			return err
		}
		for _, sql := range []string{pg.Pinned, patient} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if job.Total, err = p.cut(ctx, tx, job, relation); err != nil {
			return err
		}
		job.State = Running
		if _, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET state = 'running', total = $2 WHERE id = $1`, id, job.Total); err != nil {
			return err
		}
		return p.started(ctx, tx, job)
	})
	if err != nil {
		return Job{}, fmt.Errorf("plan job %s: %w", id, err)
	}
	return job, nil
}

func (p *Planner) started(ctx context.Context, tx pg.Tx, job Job) error {
	events, err := starts(job, lifecycle.RunStart{})
	if err != nil {
		return err
	}
	for _, event := range events {
		event.TraceID = TraceID(ctx)
		if _, err := p.Jobs.Log.Append(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}

// cut writes the first pass's ranges of every leaf, and returns the rows they are thought to hold.
func (p *Planner) cut(ctx context.Context, tx pg.Tx, job Job, relation pg.Relation) (int64, error) {
	key, _, err := keyspace.Columns(relation, job.Spec.Key)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, leaf := range relation.Leaves {
		total += leaf.Rows
		space := &keyspace.Space{Leaf: leaf.OID, Table: leaf.Table(), Key: key}
		if err := p.cutLeaf(ctx, tx, job, space, leaf); err != nil {
			return 0, fmt.Errorf("cut %s: %w", leaf.Table(), err)
		}
	}
	return total, nil
}

func (p *Planner) cutLeaf(ctx context.Context, tx pg.Tx, job Job, space *keyspace.Space, leaf pg.Leaf) error {
	if x := job.Spec.Columns[0].Index; x != nil && x.Listed {
		_, err := tx.Exec(ctx, `INSERT INTO cipherfleet.ranges (job_id, relid) VALUES ($1, $2)`, job.ID, leaf.OID)
		return err
	}
	step := p.RangeRows
	if step <= 0 {
		step = min(max(leaf.Rows/rangesWanted, fewestRangeRows), mostRangeRows)
	}
	if leaf.Pages <= cmp.Or(p.HopPages, hopPages) {
		_, err := tx.Exec(ctx, space.HopsSQL(), job.ID, space.Leaf, step)
		return err
	}
	percent := min(100*max(float64(samplesPerRange)/float64(step), samplePages/float64(leaf.Pages)), 100)
	sampled := max(int64(float64(step)*percent/100), 1)
	_, err := tx.Exec(ctx, space.SampleSQL(), job.ID, space.Leaf, sampled, percent)
	return err
}
