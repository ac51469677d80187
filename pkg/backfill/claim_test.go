package backfill_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// claimed starts a job with one range and claims it.
func claimed(t *testing.T, k *kit) work.Claim {
	t.Helper()
	k.start(t.Context(), 1000)
	id := testenv.One[int64](t, k.db, `SELECT min(id) FROM cipherfleet.ranges`)
	claim, standing, _, err := k.ranges.Claim(t.Context(), id)
	if err != nil || standing != work.Claimed {
		t.Fatalf("the range could not be claimed: %v, %v", standing, err)
	}
	return claim
}

func execute(t *testing.T, k *kit, claim work.Claim) error {
	t.Helper()
	return k.executor(t.Context(), claim.Leaf).Execute(t.Context(), claim, func(backfill.Checkpoint) {})
}

func sealed(t *testing.T, k *kit) int64 {
	t.Helper()
	return testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`)
}

func TestAnOlderEpochCommitsNothing(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), fewItems)
	claim := claimed(t, k)
	k.db.Run(t, `UPDATE cipherfleet.ranges SET epoch = epoch + 1`) // somebody claimed it since, under the same owner
	if err := execute(t, k, claim); !errors.Is(err, work.ErrLost) || sealed(t, k) != 0 {
		t.Errorf("a fenced worker got %v and wrote %d rows", err, sealed(t, k))
	}
}

func TestAnotherOwnerOfTheSameEpochCommitsNothing(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), fewItems)
	claim := claimed(t, k)
	// After a failover that lost the last commits the epoch may be given out twice; the owner never is.
	k.db.Run(t, `UPDATE cipherfleet.ranges SET owner = gen_random_uuid()`)
	if err := execute(t, k, claim); !errors.Is(err, work.ErrLost) || sealed(t, k) != 0 {
		t.Errorf("a fenced worker got %v and wrote %d rows", err, sealed(t, k))
	}
}

func TestACursorThatMovedWithoutUsCommitsNothing(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), fewItems)
	claim := claimed(t, k)
	k.db.Run(t, `UPDATE cipherfleet.ranges SET cursor_key = '{7}'`)
	if err := execute(t, k, claim); !errors.Is(err, work.ErrLost) || sealed(t, k) != 0 {
		t.Errorf("a worker with an old cursor got %v and wrote %d rows", err, sealed(t, k))
	}
}

func TestAPausedJobCommitsNothingUntilItIsResumed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems)
	claim := claimed(t, k)
	must(k.jobs.Pause(ctx, k.job.ID, "test"))(t)
	if err := execute(t, k, claim); !errors.Is(err, work.ErrLost) || sealed(t, k) != 0 {
		t.Errorf("a worker of a paused job got %v and wrote %d rows", err, sealed(t, k))
	}
	if _, standing, _, err := k.ranges.Claim(ctx, claim.ID); err != nil || standing != work.Halted {
		t.Errorf("a range of a paused job is %v, %v; want Halted", standing, err)
	}
	must(k.jobs.Resume(ctx, k.job.ID, "test"))(t)
	if job := k.finish(ctx); job.State != work.Done {
		t.Errorf("the resumed job ended %s", job.State)
	}
	k.proven(ctx, 50)
}

func TestALeasedRangeSaysHowLongItIsAndAnExpiredOneIsClaimedAgain(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), fewItems)
	claim := claimed(t, k)
	_, standing, wait, err := k.ranges.Claim(t.Context(), claim.ID)
	if err != nil || standing != work.Leased || wait <= 0 || wait > k.lease {
		t.Errorf("a leased range is %v for %v, %v", standing, wait, err)
	}
	k.db.Run(t, `UPDATE cipherfleet.ranges SET lease_until = clock_timestamp() - interval '1 second'`)
	again, standing, _, err := k.ranges.Claim(t.Context(), claim.ID)
	if err != nil || standing != work.Claimed || again.Epoch != claim.Epoch+1 || again.Owner == claim.Owner || again.Attempts != 2 {
		t.Errorf("an expired range was claimed as %v, %v: %+v", standing, err, again)
	}
	if err := k.ranges.Renew(t.Context(), claim); !errors.Is(err, work.ErrLost) {
		t.Errorf("the old claim could be renewed: %v", err)
	}
	if err := execute(t, k, again); err != nil {
		t.Error(err)
	}
}

func TestAClosedOrUnknownRangeIsClosed(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), fewItems)
	claim := claimed(t, k)
	check(t, execute(t, k, claim))
	for _, id := range []int64{claim.ID, claim.ID + 1000} {
		if _, standing, _, err := k.ranges.Claim(t.Context(), id); err != nil || standing != work.Closed {
			t.Errorf("range %d is %v, %v; want Closed", id, standing, err)
		}
	}
}

// A claim that was acknowledged and then forgotten in a crash would let two workers hold one epoch.
func TestAClaimAndARangesLastChunkAreFlushedBeforeTheyReturn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := testenv.DurablePostgres(t)
	db := testenv.Open(t, server.URL("postgres"))
	for _, sql := range []string{`ALTER DATABASE postgres SET synchronous_commit = off`, `ALTER SYSTEM SET wal_writer_delay = '10s'`, `SELECT pg_reload_conf()`} {
		db.Run(t, sql)
	}
	check(t, lifecycle.Install(ctx, db.DB))
	k := prepare(t, ctx, fewItems, func(k *kit) { k.db = testenv.Open(t, server.URL("postgres")) })
	behind := func() int64 {
		return testenv.One[int64](t, k.db, `SELECT greatest(0, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()))::bigint`)
	}
	k.start(ctx, 1000)
	claim, _, _, err := k.ranges.Claim(ctx, testenv.One[int64](t, k.db, `SELECT min(id) FROM cipherfleet.ranges`))
	check(t, err)
	if n := behind(); n > 100 {
		t.Errorf("%d bytes of WAL were not flushed after a claim", n)
	}
	check(t, execute(t, k, claim))
	if n := behind(); n > 100 {
		t.Errorf("%d bytes of WAL were not flushed after a range was closed", n)
	}
}

func TestAResumedRangeGoesOnBehindItsCursor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems, func(k *kit) { k.limits.Rows = 20 })
	claim := claimed(t, k)
	if err := oneChunk(ctx, k.executor(ctx, claim.Leaf), claim, true, map[int64]int{}); !errors.Is(err, backfill.ErrDrained) {
		t.Fatalf("the range was drained with %v", err)
	}
	check(t, k.ranges.Release(ctx, claim, ""))
	k.db.Run(t, `UPDATE public.items SET sealed = NULL WHERE id = 1`)
	again, standing, _, err := k.ranges.Claim(ctx, claim.ID)
	if err != nil || standing != work.Claimed || len(again.Cursor) != 1 || again.Cursor[0] != "20" {
		t.Fatalf("the range was claimed as %v, %v with cursor %v, want 20", standing, err, again.Cursor)
	}
	check(t, execute(t, k, again))
	if n := sealed(t, k); n != 49 {
		t.Errorf("%d rows are sealed; what became uncovered behind the cursor is for a sweep", n)
	}
	k.finish(ctx)
	k.proven(ctx, 50)
}

// Under repeatable read a statement that waits for a chunk of its own range would fail for it.
func TestALeaseIsRenewedWhateverTheDatabasesIsolationIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, pinned(fewItems), hostileDefaults)
	claim := claimed(t, k)
	for _, c := range []struct { // in this order: what was released is nobody's to renew
		name      string
		statement func() error
	}{
		{"renew", func() error { return k.ranges.Renew(ctx, claim) }},
		{"unpublish", func() error { return k.ranges.Unpublish(ctx, claim.ID) }},
		{"release", func() error { return k.ranges.Release(ctx, claim, "") }},
	} {
		chunk := must(k.db.Begin(ctx))(t)
		must(chunk.Exec(ctx, `UPDATE cipherfleet.ranges SET rows = rows + 1`))(t)
		done := make(chan error, 1)
		go func() { done <- c.statement() }()
		testenv.Eventually(t, 20*time.Second, func() error {
			if testenv.One[bool](t, k.db, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`) {
				return nil
			}
			return errors.New("nobody waits for the chunk")
		})
		check(t, chunk.Commit(ctx))
		if err := <-done; err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
