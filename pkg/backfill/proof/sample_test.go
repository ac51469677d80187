package proof_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// TestEveryBlockCanBeInASample: of a table of eight runs of blocks a quarter is read each time; what is wrong in the
// first or the last block is found now and then, and not every time.
func TestEveryBlockCanBeInASample(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := engine.Prepare(t, ctx, `CREATE TABLE public.items (id int PRIMARY KEY, secret text, fill text); ALTER TABLE public.items ALTER fill SET STORAGE PLAIN;
INSERT INTO public.items SELECT i, 'secret', repeat('x', 3000) FROM generate_series(1, 250) i; ANALYZE public.items`)
	k.Start(ctx, 1000)
	k.Done(250)
	k.DB.Run(t, `VACUUM FULL public.items`)
	k.BehindCapture(`UPDATE public.items SET sealed = NULL WHERE id = 1; UPDATE public.items SET secret = 'stale' WHERE id = 250`)
	k.DB.Run(t, `CLUSTER public.items USING items_pkey`)
	if n := testenv.One[int](t, k.DB, `SELECT pg_relation_size('public.items') / 8192`); n < 7*16+1 || n > 8*16 {
		t.Fatalf("the table has %d blocks", n)
	}
	const samples = 60 // a block stays out of all of them once in 30 million times
	first, last := 0, 0
	for range samples {
		reports := make([]proof.Report, 1)
		v := &proof.Verifier{DB: k.DB.DB, Shape: must(shape.OpenProof(ctx, k.DB.DB, k.Job, k.Relation.OID, k.Keyring))(t), Keyring: k.Keyring, Sample: 25}
		rows := 0
		check(t, v.Verify(ctx, reports, func(n int) { rows += n }))
		r := reports[0]
		if r.Rows < 33 || r.Rows > 64 || int64(rows) != r.Rows || r.Covered+r.Uncovered+r.Stale != r.Rows {
			t.Fatalf("a quarter of 250 rows is %+v", r)
		}
		first, last = first+int(r.Uncovered), last+int(r.Stale)
	}
	if first == 0 || first == samples || last == 0 || last == samples {
		t.Errorf("of %d samples %d saw the first block, and %d the last", samples, first, last)
	}
}
