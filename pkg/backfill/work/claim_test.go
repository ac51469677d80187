package work_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

func TestAnOlderEpochCommitsNothing(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), engine.FewItems)
	claim := k.Claimed(t)
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET epoch = epoch + 1`) // somebody claimed it since, under the same owner
	if err := k.Execute(t, claim); !errors.Is(err, work.ErrLost) || k.Sealed(t) != 0 {
		t.Errorf("a fenced worker got %v and wrote %d rows", err, k.Sealed(t))
	}
}

func TestAnotherOwnerOfTheSameEpochCommitsNothing(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), engine.FewItems)
	claim := k.Claimed(t)
	// After a failover that lost the last commits the epoch may be given out twice; the owner never is.
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET owner = gen_random_uuid()`)
	if err := k.Execute(t, claim); !errors.Is(err, work.ErrLost) || k.Sealed(t) != 0 {
		t.Errorf("a fenced worker got %v and wrote %d rows", err, k.Sealed(t))
	}
}

func TestACursorThatMovedWithoutUsCommitsNothing(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), engine.FewItems)
	claim := k.Claimed(t)
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET cursor_key = '{7}'`)
	if err := k.Execute(t, claim); !errors.Is(err, work.ErrLost) || k.Sealed(t) != 0 {
		t.Errorf("a worker with an old cursor got %v and wrote %d rows", err, k.Sealed(t))
	}
}

func TestAPausedJobCommitsNothingUntilItIsResumed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems)
	claim := k.Claimed(t)
	must(k.Jobs.Pause(ctx, k.Job.ID, "test"))(t)
	if err := k.Execute(t, claim); !errors.Is(err, work.ErrLost) || k.Sealed(t) != 0 {
		t.Errorf("a worker of a paused job got %v and wrote %d rows", err, k.Sealed(t))
	}
	if _, standing, _, err := k.Ranges.Claim(ctx, claim.ID); err != nil || standing != work.Halted {
		t.Errorf("a range of a paused job is %v, %v; want Halted", standing, err)
	}
	must(k.Jobs.Resume(ctx, k.Job.ID, "test"))(t)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Errorf("the resumed job ended %s", job.State)
	}
	k.Proven(ctx, 50)
}

func TestALeasedRangeSaysHowLongItIsAndAnExpiredOneIsClaimedAgain(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), engine.FewItems)
	claim := k.Claimed(t)
	_, standing, wait, err := k.Ranges.Claim(t.Context(), claim.ID)
	if err != nil || standing != work.Leased || wait <= 0 || wait > k.Lease {
		t.Errorf("a leased range is %v for %v, %v", standing, wait, err)
	}
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET lease_until = clock_timestamp() - interval '1 second'`)
	again, standing, _, err := k.Ranges.Claim(t.Context(), claim.ID)
	if err != nil || standing != work.Claimed || again.Epoch != claim.Epoch+1 || again.Owner == claim.Owner || again.Attempts != 2 {
		t.Errorf("an expired range was claimed as %v, %v: %+v", standing, err, again)
	}
	if err := k.Ranges.Renew(t.Context(), claim); !errors.Is(err, work.ErrLost) {
		t.Errorf("the old claim could be renewed: %v", err)
	}
	if err := k.Execute(t, again); err != nil {
		t.Error(err)
	}
}

func TestAClosedOrUnknownRangeIsClosed(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), engine.FewItems)
	claim := k.Claimed(t)
	check(t, k.Execute(t, claim))
	for _, id := range []int64{claim.ID, claim.ID + 1000} {
		if _, standing, _, err := k.Ranges.Claim(t.Context(), id); err != nil || standing != work.Closed {
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
	k := prepare(t, ctx, engine.FewItems, func(k *engine.Kit) { k.DB = testenv.Open(t, server.URL("postgres")) })
	behind := func() int64 {
		return testenv.One[int64](t, k.DB, `SELECT greatest(0, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()))::bigint`)
	}
	k.Start(ctx, 1000)
	claim, _, _, err := k.Ranges.Claim(ctx, testenv.One[int64](t, k.DB, `SELECT min(id) FROM cipherfleet.ranges`))
	check(t, err)
	if n := behind(); n > 100 {
		t.Errorf("%d bytes of WAL were not flushed after a claim", n)
	}
	check(t, k.Execute(t, claim))
	if n := behind(); n > 100 {
		t.Errorf("%d bytes of WAL were not flushed after a range was closed", n)
	}
}

// Under repeatable read a statement that waits for a chunk of its own range would fail for it.
func TestALeaseIsRenewedWhateverTheDatabasesIsolationIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.Pinned(engine.FewItems), engine.HostileDefaults)
	claim := k.Claimed(t)
	for _, c := range []struct { // in this order: what was released is nobody's to renew
		name      string
		statement func() error
	}{
		{"renew", func() error { return k.Ranges.Renew(ctx, claim) }},
		{"unpublish", func() error { return k.Ranges.Unpublish(ctx, claim.ID) }},
		{"release", func() error { return k.Ranges.Release(ctx, claim, "") }},
	} {
		chunk := must(k.DB.Begin(ctx))(t)
		must(chunk.Exec(ctx, `UPDATE cipherfleet.ranges SET rows = rows + 1`))(t)
		done := make(chan error, 1)
		go func() { done <- c.statement() }()
		testenv.Eventually(t, time.Minute, func() error {
			if testenv.One[bool](t, k.DB, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`) {
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
