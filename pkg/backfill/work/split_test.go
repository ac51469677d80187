package work_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

func (k *kit) split(t *testing.T, patience time.Duration) bool {
	t.Helper()
	return must(k.Jobs.Split(t.Context(), k.Job.ID, k.Inspect(t.Context()), patience))(t)
}

func TestASlowRangeIsSplitAndShared(t *testing.T) {
	t.Parallel()
	cases := engine.KeyCases()
	for _, name := range []string{"bigint", "float8", "text ICU", "backwards", "text, int", "uuid, timestamptz", "one tenant has most", "enum", "record", "domain of a domain"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, engine.Pinned(cases[name].SQL(name)), engine.HostileDefaults)
			rows := k.Rows(t)
			k.Audit(ctx)
			claim := k.Begun(t)
			if !k.split(t, time.Second) {
				t.Fatal("the range was not split")
			}
			if err := k.Execute(t, claim); !errors.Is(err, work.ErrLost) {
				t.Errorf("who worked on the range that was split got %v", err)
			}
			k.Covering(ctx, rows)
			if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM cipherfleet.ranges WHERE parent = $1 AND state = 'pending'`, claim.ID); n != 2 {
				t.Errorf("the range has %d children, want 2", n)
			}
			done := k.Sealed(t)
			check(t, k.Work(ctx))
			k.balanced(t, claim.ID, rows-done)
			if job := k.Finish(ctx); job.State != work.Done || job.Pass != 1 {
				t.Fatalf("the job ended %s in pass %d: %s", job.State, job.Pass, job.StoppedBy)
			}
			k.Proven(ctx, rows)
			if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.audit`); n != rows {
				t.Errorf("%d updates were committed for %d rows", n, rows)
			}
			if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM cipherfleet.events WHERE event = 'range_split' AND range_id = $1`, claim.ID); n != 1 {
				t.Errorf("the log tells of %d splits, want 1", n)
			}
		})
	}
}

// balanced demands that both children of a range had about half of what was left.
func (k *kit) balanced(t *testing.T, parent, left int64) {
	t.Helper()
	for _, n := range testenv.Column[int64](t, k.DB, `SELECT rows FROM cipherfleet.ranges WHERE parent = $1`, parent) {
		if n < left/2-1 || n > left/2+1 {
			t.Errorf("a half of %d rows has %d", left, n)
		}
	}
}

func TestARangeIsNotSplitWithoutNeed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql      string
		patience time.Duration
		rows     int
	}{
		"it was offered a moment ago":     {patience: time.Hour, rows: 1000},
		"little of it is left":            {rows: 200},
		"another range waits for a claim": {`INSERT INTO cipherfleet.ranges (job_id, relid, after_key) SELECT job_id, relid, '{2000}' FROM cipherfleet.ranges`, 0, 1000},
		"its lease ran out":               {`UPDATE cipherfleet.ranges SET lease_until = clock_timestamp() - interval '1 second'`, 0, 1000},
		"the job is paused":               {`UPDATE cipherfleet.jobs SET state = 'paused'`, 0, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := prepare(t, t.Context(), fmt.Sprintf(`CREATE TABLE public.items (id bigint PRIMARY KEY, secret text);
INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, %d) i`, tc.rows))
			k.Begun(t)
			if tc.sql != "" {
				k.DB.Run(t, tc.sql)
			}
			if k.split(t, tc.patience) {
				t.Error("the range was split")
			}
		})
	}
}

// Without the parent's lower end and cursor in its first child the sweep would believe in a hole, or work be done again.
func TestARangeCanBeSplitAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 2000) i`)
	k.Audit(ctx)
	k.Begun(t)
	for round := range 3 {
		if !k.split(t, time.Second) {
			t.Fatalf("round %d: nothing was split", round)
		}
		for _, id := range testenv.Column[int64](t, k.DB, `SELECT id FROM cipherfleet.ranges WHERE state = 'pending' AND owner IS NULL`) {
			_, standing, _, err := k.Ranges.Claim(ctx, id)
			if err != nil || standing != work.Claimed {
				t.Fatalf("a child could not be claimed: %v, %v", standing, err)
			}
		}
		k.DB.Run(t, `UPDATE cipherfleet.ranges SET published_at = clock_timestamp() - interval '1 minute' WHERE state = 'pending'`)
	}
	k.Covering(ctx, 2000)
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET lease_until = NULL, owner = NULL WHERE state = 'pending'`)
	if job := k.Finish(ctx); job.State != work.Done || job.Pass != 1 {
		t.Fatalf("the job ended %s in pass %d: %s", job.State, job.Pass, job.StoppedBy)
	}
	k.Proven(ctx, 2000)
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.audit`); n != 2000 {
		t.Errorf("%d updates were committed for 2000 rows", n)
	}
}
