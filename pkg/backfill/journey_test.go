package backfill_test

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const mostAttempts = 50 // at one range; two at each of its chunks would be many

// journey takes a prepared table all the way, stopping and claiming anew after every single chunk: the ranges cover
// each row once, each is closed once, what the checkpoints say adds up to what was written, every cell opens.
func (k *kit) journey(ctx context.Context, rows int64) {
	k.T.Helper()
	k.Limits.Rows = int(rows / 15)
	k.Start(ctx, rows/4) // ranges with several cursors each, none of them at the range's end
	k.Covering(ctx, rows)
	k.Audit(ctx)
	stops := k.interrupted(ctx)
	if stops < 4 {
		k.T.Errorf("the work was stopped %d times inside a range, want at least 4", stops)
	}
	if job := k.Finish(ctx); job.State != work.Done {
		k.T.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, rows)
	for _, c := range k.Columns {
		said := testenv.One[int64](k.T, k.DB, `SELECT coalesce(sum(rows_processed), 0)::bigint FROM cipherfleet.events WHERE event = $1 AND table_name = $2 AND column_name = $3`,
			string(lifecycle.KindCheckpoint), c.LogTable, c.LogColumn)
		if done := testenv.One[int64](k.T, k.DB, `SELECT count(*) FROM public.audit`); said != rows || done != rows {
			k.T.Errorf("checkpoints of %q add up to %d rows, %d updates were committed, want %d of each", c.Source, said, done, rows)
		}
	}
	if n := k.Quarantined(k.T); n != 0 {
		k.T.Errorf("%d rows are in quarantine", n)
	}
}

// interrupted carries every range that is pending, but stops after each chunk, by turns gently and by force, and
// claims again. It says how often it was stopped before a range was done.
func (k *kit) interrupted(ctx context.Context) (stops int64) {
	k.T.Helper()
	closed, shapes := map[int64]int{}, map[uint32]*shape.Shape{}
	for _, id := range testenv.Column[int64](k.T, k.DB, `SELECT id FROM cipherfleet.ranges WHERE state = 'pending' ORDER BY md5(id::text)`) {
		for attempt := 0; ; attempt++ {
			if attempt > mostAttempts {
				k.T.Fatalf("range %d does not come to its end in %d attempts", id, attempt)
			}
			claim, standing, _, err := k.Ranges.Claim(ctx, id)
			check(k.T, err)
			if standing == work.Closed {
				break
			}
			if standing != work.Claimed {
				k.T.Fatalf("range %d is %v", id, standing)
			}
			if shapes[claim.Leaf] == nil {
				shapes[claim.Leaf] = k.Shape(ctx, claim.Leaf)
			}
			err = oneChunk(ctx, k.ExecutorOf(shapes[claim.Leaf]), claim, stops%2 == 0, closed)
			switch {
			case errors.Is(err, backfill.ErrDrained), errors.Is(err, context.Canceled):
				stops++
			case err != nil:
				k.T.Fatalf("range %d: %v", id, err)
			}
			check(k.T, k.Ranges.Release(ctx, claim, ""))
		}
		if closed[id] != 1 {
			k.T.Errorf("range %d was closed %d times", id, closed[id])
		}
	}
	return stops
}

// oneChunk executes a claim until it reports the first chunk, or a little longer.
func oneChunk(ctx context.Context, x *backfill.Executor, claim work.Claim, gently bool, closed map[int64]int) error {
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	drain := make(chan struct{})
	x.Drain = drain
	stopped := false
	return x.Execute(ctx, claim, func(c backfill.Checkpoint) {
		if c.Done {
			closed[claim.ID]++
		}
		switch {
		case stopped:
		case gently:
			close(drain)
		default:
			kill()
		}
		stopped = true
	})
}
