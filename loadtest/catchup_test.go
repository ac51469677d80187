package main

import (
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const uncoveredSQL = `SELECT NOT EXISTS (SELECT FROM public.items WHERE (secret IS NULL) <> (sealed IS NULL))`

// Nobody asks for it: after the job a write misses the target, and is covered.
func TestWhatBecomesUncoveredAfterAJobIsSweptWithoutACommand(t *testing.T) {
	t.Parallel()
	f := leadCatchingUp(t, 50*time.Millisecond)
	defer f.worker("w1")()
	f.done()
	f.db.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id = 7`)
	f.await("the row is covered", uncoveredSQL)
	f.await("its table has an index of uncovered rows", `SELECT count(*) = 1 FROM pg_index WHERE indrelid = 'public.items'::regclass AND indpred IS NOT NULL AND indisvalid`)
	f.await("the job is done again", `SELECT state = 'done' FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID)
	f.db.Run(t, `INSERT INTO public.items VALUES (5000, 'missed again'); UPDATE public.items SET sealed = NULL WHERE id = 8`) // the second is on no record
	f.await("the rows are covered", uncoveredSQL)
	f.await("the job is done again", `SELECT state = 'done' FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID)
	if whole := testenv.One[int](t, f.db, `SELECT count(*) FROM cipherfleet.ranges WHERE pass = (SELECT pass FROM cipherfleet.jobs) AND after_key IS NULL AND through_key IS NULL`); whole != 1 {
		t.Errorf("the last sweep had %d ranges over everything, want 1", whole)
	}
	if phase := testenv.One[string](t, f.db, `SELECT phase FROM cipherfleet.events ORDER BY id DESC LIMIT 1`); phase != "backfilled" {
		t.Errorf("the column is %s", phase)
	}
	if starts := testenv.One[int](t, f.db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_started'`); starts < 3 {
		t.Errorf("the log has %d starts, want the job's and two sweeps", starts)
	}
}

// A writer whose transaction is open over a whole sweep is not seen by it.
func TestAWriteThatCommitsAfterTheSweepIsSweptToo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := leadCatchingUp(t, 50*time.Millisecond)
	defer f.worker("w1")()
	f.done()
	late, err := f.db.Begin(ctx)
	check(t, err)
	defer late.Rollback(ctx) //nolint:errcheck // after the commit it does nothing
	_, err = late.Exec(ctx, `UPDATE public.items SET secret = 'late' WHERE id = 9`)
	check(t, err)
	f.db.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id = 7`)
	f.await("the committed row is covered", `SELECT sealed IS NOT NULL AND (SELECT pass > 1 AND state = 'done' FROM cipherfleet.jobs) FROM public.items WHERE id = 7`)
	check(t, late.Commit(ctx))
	f.await("the late row is covered", uncoveredSQL)
}
