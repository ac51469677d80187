package backfill_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// What moves, freezes or rewrites rows between a chunk's read and its write changes no version: it is no conflict.
func TestMaintenanceBetweenReadAndWriteIsNoConflict(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"freeze":  `VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) public.items`,
		"full":    `VACUUM FULL public.items`,
		"cluster": `CLUSTER public.items USING items_pkey`,
		"analyze": `ANALYZE public.items`,
		"reindex": `REINDEX TABLE public.items`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			var k *kit
			kept := false
			k = prepare(t, ctx, engine.FewItems, between(func() {
				if !kept {
					kept = true
					k.DB.Run(t, statement)
				}
			}))
			written := testenv.One[int64](t, k.DB, writtenSQL)
			k.Start(ctx, 1000)
			check(t, k.Work(ctx))
			if n := k.Sealed(t); n != 50 || !kept {
				t.Errorf("%d of 50 rows are sealed after the first pass", n)
			}
			if n := testenv.One[int64](t, k.DB, `SELECT sum(conflicts)::bigint FROM cipherfleet.ranges`); n != 0 {
				t.Errorf("%d conflicts were counted", n)
			}
			if name == "freeze" {
				frozen(t, k, written)
			}
		})
	}
}

// frozen demands that whatever the rows held when they were frozen lies behind the table's horizon.
func frozen(t testing.TB, k *kit, horizon int64) {
	t.Helper()
	if now := testenv.One[int64](t, k.DB, horizonSQL); now <= horizon {
		t.Errorf("the table's horizon is %d, the rows were written by %d: they are not frozen", now, horizon)
	}
}

const (
	horizonSQL = `SELECT relfrozenxid::text::bigint FROM pg_class WHERE oid = 'public.items'::regclass`
	writtenSQL = `SELECT max(xmin::text::bigint) FROM public.items`
)

func TestFrozenRowsAreWritten(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems)
	written := testenv.One[int64](t, k.DB, writtenSQL)
	k.DB.Run(t, `VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) public.items`)
	frozen(t, k, written)
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
	if n := testenv.One[int64](t, k.DB, `SELECT sum(conflicts)::bigint FROM cipherfleet.ranges`); n != 0 {
		t.Errorf("%d conflicts were counted", n)
	}
}

// A frozen row that is changed has a new version like any other.
func TestAChangeOfAFrozenRowIsAConflict(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	changed := false
	k = prepare(t, ctx, engine.FewItems, between(func() {
		if !changed {
			changed = true
			k.DB.Run(t, `UPDATE public.items SET secret = 'newer' WHERE id = 7`)
			k.DB.Run(t, `VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) public.items`)
		}
	}))
	k.DB.Run(t, `VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) public.items`)
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
	if n := testenv.One[int64](t, k.DB, `SELECT sum(conflicts)::bigint FROM cipherfleet.ranges`); n != 1 {
		t.Errorf("%d conflicts were counted, want 1", n)
	}
}
