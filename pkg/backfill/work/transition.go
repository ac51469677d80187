package work

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// State is where a job stands.
type State string

// The states of a job. Running, sweeping and watching are those in which its ranges may be claimed.
const (
	Planning  State = "planning"
	Running   State = "running"
	Sweeping  State = "sweeping"
	Watching  State = "watching"
	Paused    State = "paused"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended says that nothing will happen to the job any more.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// Admits says whether what this kind of event stands for can happen to a job in state s. What has happened already can
// be asked for again, and changes nothing.
func (s State) Admits(kind lifecycle.Kind) bool {
	switch kind {
	case lifecycle.KindJobPaused:
		return s == Running || s == Sweeping || s == Watching || s == Paused
	case lifecycle.KindJobResumed:
		return s == Paused || s == Running || s == Sweeping
	case lifecycle.KindJobCancelled:
		return !s.Ended() || s == Cancelled
	case lifecycle.KindError:
		return !s.Ended() || s == Failed
	}
	return false
}

// transition is one change of a job's state and the event that records it.
type transition struct {
	to     State
	kind   lifecycle.Kind
	reason string
	actor  string
}

// Pause keeps the job's ranges from being claimed; chunks in flight that have not committed are fenced out.
func (s *Jobs) Pause(ctx context.Context, id, actor string) (Job, error) {
	return s.move(ctx, id, transition{to: Paused, kind: lifecycle.KindJobPaused, actor: actor})
}

// Resume lets a paused job go on where it stood.
func (s *Jobs) Resume(ctx context.Context, id, actor string) (Job, error) {
	return s.move(ctx, id, transition{to: Running, kind: lifecycle.KindJobResumed, actor: actor})
}

// Cancel ends a job for good; what it has written stays, and another job will find it.
func (s *Jobs) Cancel(ctx context.Context, id, actor string) (Job, error) {
	return s.move(ctx, id, transition{to: Cancelled, kind: lifecycle.KindJobCancelled, actor: actor})
}

// Fail ends a job that cannot go on. The reason is shown to people and holds no value.
func (s *Jobs) Fail(ctx context.Context, id, reason string) (Job, error) {
	return s.move(ctx, id, transition{to: Failed, kind: lifecycle.KindError, reason: reason})
}

// bumpSQL fences every claim of the job's unfinished ranges, and lets them be offered again.
const bumpSQL = `UPDATE cipherfleet.ranges SET epoch = epoch + 1, owner = NULL, lease_until = NULL, published_at = NULL
 WHERE job_id = $1 AND state = 'pending'`

const fenceSQL = `UPDATE cipherfleet.ranges SET epoch = epoch + 1, owner = NULL, lease_until = NULL, published_at = NULL
 WHERE state = 'pending' AND job_id IN (SELECT j.id FROM cipherfleet.jobs j, pg_catalog.jsonb_array_elements(j.spec->'columns') c
  WHERE j.state NOT IN ('done', 'failed', 'cancelled') AND ((c->>'id')::bigint = $1 OR (c #>> '{origin,column}')::bigint = $1))`

// Fence ends every claim by which somebody may be opening or sealing cells of a column: what he has opened or sealed with
// a key that the caller's transaction takes away is not written any more once that has committed. Such ranges are offered
// again, and whoever claims them knows which keys there are.
func Fence(ctx context.Context, tx pg.Tx, column uint32) error {
	if _, err := tx.Exec(ctx, fenceSQL, column); err != nil {
		return fmt.Errorf("fence the jobs over column %d: %w", column, err)
	}
	return nil
}

// move changes the job's state, appends its event and fences its ranges in one transaction. A job that is there
// already is left alone, so that repeating a request changes nothing; [ErrState] if it cannot get there.
func (s *Jobs) move(ctx context.Context, id string, t transition) (Job, error) {
	var job Job
	err := s.change(ctx, func(tx pg.Tx) (err error) {
		if job, err = jobBy(ctx, tx, "WHERE id::text = $1 FOR UPDATE", id); err != nil {
			return err
		}
		if t.kind == lifecycle.KindJobResumed {
			t.to = resumed(job)
		}
		if !job.State.Admits(t.kind) {
			return &StateError{job.State}
		}
		if job.State == t.to {
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE cipherfleet.jobs SET state = $2, stopped_by = nullif($3, '') WHERE id = $1`, id, t.to, t.reason); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, bumpSQL, id); err != nil {
			return err
		}
		job.State, job.StoppedBy = t.to, t.reason
		return s.record(ctx, tx, job, t)
	})
	if err != nil {
		return Job{}, fmt.Errorf("change job %s: %w", id, err)
	}
	return job, nil
}

// resumed is the state a paused job goes back to.
func resumed(j Job) State {
	if j.Pass > 0 {
		return Sweeping
	}
	return Running
}

// record appends the transition's event for every column.
func (s *Jobs) record(ctx context.Context, tx pg.Tx, j Job, t transition) (err error) {
	for _, event := range j.Events() {
		event.Kind, event.Actor, event.TraceID = t.kind, t.actor, TraceID(ctx)
		if t.reason != "" {
			if event.Detail, err = json.Marshal(map[string]string{"reason": t.reason}); err != nil {
				return err
			}
		}
		if _, err := s.Log.Append(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}
