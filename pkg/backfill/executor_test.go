package backfill_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const plainItems = `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, note text);
INSERT INTO public.items SELECT i, CASE WHEN i % 17 <> 0 THEN 'user' || i || '@example.com' END FROM generate_series(1, 20000) i;
ANALYZE public.items`

func TestEveryRowOfATableIsCovered(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, plainItems)
	k.Start(ctx, 3000)
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM cipherfleet.ranges`); n != 7 {
		t.Errorf("planned %d ranges, want 7", n)
	}
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 20000)
	if n := testenv.One[int64](t, k.DB, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); n != 20000-20000/17 {
		t.Errorf("the checkpoints add up to %d rows", n)
	}
}
