package backfill_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// A change of the table in the middle of a range stops the job, writes nothing more, and lets the application write.
func TestATableThatChangesInTheMiddleStopsTheJobAndNotTheApplication(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ change, write, says string }{
		"source renamed":    {`ALTER TABLE public.items RENAME secret TO hidden`, `UPDATE public.items SET hidden = 'x' WHERE id = 1`, "column secret"},
		"target renamed":    {`ALTER TABLE public.items RENAME sealed TO shut`, `UPDATE public.items SET secret = 'x' WHERE id = 1`, "column sealed"},
		"table renamed":     {`ALTER TABLE public.items RENAME TO things`, `UPDATE public.things SET secret = 'x' WHERE id = 1`, "things"},
		"key renamed":       {`ALTER TABLE public.items RENAME id TO number`, `UPDATE public.items SET secret = 'x' WHERE number = 1`, "column id"},
		"columns exchanged": {`ALTER TABLE public.items RENAME secret TO other; ALTER TABLE public.items RENAME note TO secret`, `UPDATE public.items SET other = 'x' WHERE id = 1`, ""},
		"capture disabled":  {`ALTER TABLE public.items DISABLE TRIGGER ALL`, `UPDATE public.items SET secret = 'x' WHERE id = 1`, ""},
		"target dropped":    {`ALTER TABLE public.items DROP sealed CASCADE`, `UPDATE public.items SET secret = 'x' WHERE id = 1`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			var k *kit
			writes := 0
			k = prepare(t, ctx, engine.FewItems, between(func() {
				if writes++; writes == 1 {
					k.DB.Run(t, c.change)
				}
			}))
			claim := k.Claimed(t)
			executor := k.Executor(ctx, claim.Leaf)
			err := executor.Execute(ctx, claim, func(backfill.Checkpoint) { t.Error("a chunk was committed") })
			if !errors.Is(err, keyspace.ErrChanged) {
				t.Fatalf("the executor returned %v, want ErrChanged", err)
			}
			if says, err := executor.Shape.Changed(ctx, k.DB); err != nil || says == "" || !strings.Contains(says, c.says) {
				t.Errorf("what changed is described as %q, %v", says, err)
			}
			k.DB.Run(t, c.write)
			if name == "table renamed" || name == "target renamed" || name == "target dropped" {
				return
			}
			if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`); n != 0 {
				t.Errorf("%d rows were written", n)
			}
		})
	}
}
