package work

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const (
	fewestSplitRows = 64                // what is left of a range below that is not worth another claim
	mostSplitRows   = 2 * mostRangeRows // looked at to find the middle
)

// slowestSQL is the range of a job that somebody has worked on for longest, if every open range is worked on and that
// one was offered before $2.
const slowestSQL = `SELECT r.id, r.relid, r.pass, r.after_key, r.through_key, r.cursor_key FROM cipherfleet.ranges r
 WHERE r.job_id = $1 AND r.state = 'pending' AND r.lease_until > clock_timestamp() AND r.published_at < clock_timestamp() - $2::interval
   AND NOT EXISTS (SELECT FROM cipherfleet.ranges o WHERE o.job_id = $1 AND o.state = 'pending' AND (o.lease_until IS NULL OR o.lease_until <= clock_timestamp()))
 ORDER BY r.published_at, r.id LIMIT 1 FOR UPDATE OF r SKIP LOCKED`

// splitSQL fences whoever works on the range: the chunk in hand does not commit, and is done again by a child.
const splitSQL = `UPDATE cipherfleet.ranges SET state = 'split', epoch = epoch + 1, owner = NULL, lease_until = NULL WHERE id = $1`

// childrenSQL keeps the first child's lower end where the parent's was, so that the ranges of a pass still join, and
// its cursor where the parent's stood.
const childrenSQL = `INSERT INTO cipherfleet.ranges (job_id, parent, relid, pass, after_key, through_key, cursor_key)
SELECT job_id, id, relid, pass, after_key, $2::text[], cursor_key FROM cipherfleet.ranges WHERE id = $1
UNION ALL SELECT job_id, id, relid, pass, $2::text[], through_key, NULL FROM cipherfleet.ranges WHERE id = $1`

// Split cuts what is left of a job's slowest range in two, so that an idle worker can share it, if there is nothing
// else to do, and if the range was offered longer ago than patience. It says whether it did.
func (s *Jobs) Split(ctx context.Context, id string, relation pg.Relation, patience time.Duration) (done bool, err error) {
	err = s.change(ctx, func(tx pg.Tx) error {
		job, err := jobBy(ctx, tx, "WHERE id::text = $1 FOR UPDATE", id)
		if err != nil || job.State != Running && job.State != Sweeping {
			return err
		}
		if _, err := tx.Exec(ctx, pg.Pinned); err != nil {
			return err
		}
		slow := Range{Job: id}
		err = tx.QueryRow(ctx, slowestSQL, id, patience).Scan(&slow.ID, &slow.Leaf, &slow.Pass, &slow.After, &slow.Through, &slow.Cursor)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		middle, err := middleOf(ctx, tx, job, relation, slow)
		if err != nil || middle == nil {
			return err
		}
		done = true
		return s.split(ctx, tx, job, slow, middle)
	})
	if err != nil {
		return false, fmt.Errorf("split a range of job %s: %w", id, err)
	}
	return done, nil
}

func (s *Jobs) split(ctx context.Context, tx pg.Tx, job Job, slow Range, middle keyspace.Key) error {
	if _, err := tx.Exec(ctx, splitSQL, slow.ID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, childrenSQL, slow.ID, []string(middle)); err != nil {
		return err
	}
	for _, event := range job.Events() {
		event.Kind, event.Range, event.TraceID = lifecycle.KindRangeSplit, fmt.Sprint(slow.ID), TraceID(ctx)
		if _, err := s.Log.Append(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}

// middleOf is the key in the middle of what is left of a range; nil if little is, or if its leaf is gone.
func middleOf(ctx context.Context, tx pg.Tx, job Job, relation pg.Relation, slow Range) (keyspace.Key, error) {
	key, _, err := keyspace.Columns(relation, job.Spec.Key)
	if err != nil {
		return nil, err
	}
	for _, leaf := range relation.Leaves {
		if leaf.OID != slow.Leaf {
			continue
		}
		space := &keyspace.Space{Leaf: leaf.OID, Table: leaf.Table(), Key: key}
		return middle(ctx, tx, space, keyspace.TextBound(slow.Start()), keyspace.TextBound(slow.Through))
	}
	return nil, nil
}

// middle asks by the raw protocol, because a bound of some types can be read only as a parameter of that very type.
func middle(ctx context.Context, tx pg.Tx, s *keyspace.Space, lower, upper keyspace.Bound) (keyspace.Key, error) {
	var q pg.Statement
	s.Bind(&q, lower)
	s.Bind(&q, upper)
	answer := tx.Conn().PgConn().ExecParams(ctx, s.MiddleSQL(!lower.Open(), !upper.Open(), mostSplitRows, fewestSplitRows), q.Params, q.OIDs, q.Formats, nil).Read()
	if answer.Err != nil || len(answer.Rows) == 0 {
		return nil, pg.Safe(answer.Err)
	}
	var middle keyspace.Key
	for _, part := range answer.Rows[0] {
		middle = append(middle, string(part))
	}
	return middle, nil
}
