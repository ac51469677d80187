package backfill_test

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

func TestAResumedRangeGoesOnBehindItsCursor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems, func(k *engine.Kit) { k.Limits.Rows = 20 })
	claim := k.Claimed(t)
	if err := oneChunk(ctx, k.Executor(ctx, claim.Leaf), claim, true, map[int64]int{}); !errors.Is(err, backfill.ErrDrained) {
		t.Fatalf("the range was drained with %v", err)
	}
	check(t, k.Ranges.Release(ctx, claim, ""))
	k.DB.Run(t, `UPDATE public.items SET sealed = NULL WHERE id = 1`)
	again, standing, _, err := k.Ranges.Claim(ctx, claim.ID)
	if err != nil || standing != work.Claimed || len(again.Cursor) != 1 || again.Cursor[0] != "20" {
		t.Fatalf("the range was claimed as %v, %v with cursor %v, want 20", standing, err, again.Cursor)
	}
	check(t, k.Execute(t, again))
	if n := k.Sealed(t); n != 49 {
		t.Errorf("%d rows are sealed; what became uncovered behind the cursor is for a sweep", n)
	}
	k.Finish(ctx)
	k.Proven(ctx, 50)
}
