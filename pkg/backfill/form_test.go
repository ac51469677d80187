package backfill_test

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Cells in text and jsonb go through all that cells in bytea go through: sealed, missed, swept, verified, cut over, opened
// again, sealed anew; a type of fixed width, for it is read in another format than its cells.
func TestCellsAsTextGoThroughEverything(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormText, cell.FormJSON} {
		for _, typ := range []string{"text", "bigint", "bytea"} {
			t.Run(form.String()+" of "+typ, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				k := prepare(t, ctx, fmt.Sprintf(`CREATE TABLE public.items (id bigint PRIMARY KEY, secret %s);
INSERT INTO public.items SELECT i, nullif(i %% 10, 0)::text::%[1]s FROM generate_series(1, 50) i; ANALYZE public.items`, typ), engine.In(form))
				k.Start(ctx, 10)
				if job := k.Finish(ctx); job.State != work.Done {
					t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
				}
				k.Proven(ctx, 50)
				if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed::text LIKE '%cf1.9cE%'`); n != 45 {
					t.Errorf("%d rows hold the text form of a cell", n)
				}
				k.DB.Run(t, `UPDATE public.items SET secret = '9' WHERE id BETWEEN 1 AND 5`)
				k.Job = must(k.Jobs.CatchUp(ctx, k.Job.ID, k.Leaves(), nil))(t)
				k.Finish(ctx)
				k.BehindCapture(`UPDATE public.items SET sealed = (SELECT sealed FROM public.items WHERE id = 1) WHERE id = 2`)
				if r := k.Verify(ctx)[0]; r.Broken != 1 || r.Covered != 49 || r.Schemes[1] != 44 || r.Nonces.Distinct != 44 {
					t.Errorf("verification found %+v", r)
				}
				k.DB.Run(t, `UPDATE public.items SET sealed = NULL WHERE id = 2`)
				k.Job = must(k.Jobs.CatchUp(ctx, k.Job.ID, k.Leaves(), nil))(t)
				k.Finish(ctx)
				k.Proven(ctx, 50)
				plain := func(column string) string {
					return testenv.One[string](t, k.DB, `SELECT string_agg(coalesce(`+column+`::text, '-'), ' ' ORDER BY id) FROM public.items`)
				}
				before := plain("secret")
				k.CutOver()
				k.DB.Run(t, `UPDATE public.items SET secret_plaintext = NULL WHERE id > 20`)
				k.Start(ctx, 10)
				if job := k.Finish(ctx); job.State != work.Done || plain("secret_plaintext") != before {
					t.Fatalf("the job in reverse ended %s: %s", job.State, job.StoppedBy)
				}
				k.Rotate(ctx, k.Scheme(ctx, 2, nil))
				k.Start(ctx, 10)
				if job := k.Finish(ctx); job.State != work.Done || plain("secret_plaintext") != before {
					t.Fatalf("the rotation ended %s: %s", job.State, job.StoppedBy)
				}
				if r := k.Verify(ctx)[0]; !r.Proven() || r.Schemes[2] != 45 {
					t.Errorf("after the rotation: %+v", r)
				}
			})
		}
	}
}

// What a keychain knows reaches the transform also where cells stand as text.
func TestAKeychainIsAskedWhateverTheForm(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText} {
		ctx := t.Context()
		k := prepare(t, ctx, engine.FewItems, engine.In(form))
		chain := must(lifecycle.OpenKeychain(ctx, k.DB, k.KEK, lifecycle.KeychainConfig{}))(t)
		k.Start(ctx, 1000)
		made := must(k.Shape(ctx, k.Relation.OID).Columns[0].Transform(k.Keyring))(t)
		if e := transform.Inner(backfill.WithKeys(made, chain, k.DB.DB)).(*transform.Encrypt); e.Key == nil {
			t.Errorf("cells in %s are sealed without tenants' keys", form)
		}
	}
}
