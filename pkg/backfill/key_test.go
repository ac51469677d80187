package backfill_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
)

// Empty sorts first: it is the first thing a fresh batch keeps.
func TestAnEmptyKeyIsNoNull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, `CREATE TABLE public.items (id text PRIMARY KEY, secret text); INSERT INTO public.items VALUES ('', ''), ('a', '')`)
	k.Start(ctx, 1)
	if job := k.Finish(ctx); job.State != work.Done || k.Quarantined(t) != 0 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
	}
	k.Proven(ctx, 2)
}

// A key may change and still be equal: the row that is locked then has another address than the one that was read.
func TestARowWhoseKeyChangesToAnEqualOneIsSealedForTheNewOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ kind, before, after string }{
		"citext":    {`"Ex t".citext`, "'alice'", "'Alice'"},
		"collation": {`text COLLATE public.loose`, "'alice'", "'Alice'"},
		"float":     {"float8", "0", "'-0'"},
		"interval":  {"interval", "'1 mon'", "'30 days'"},
		"jsonb":     {"jsonb", "'1.0'", "'1.00'"},
		"numeric":   {"numeric", "1.0", "1.00"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			var k *kit
			sealed := false
			k = prepare(t, ctx, `CREATE SCHEMA "Ex t"; CREATE EXTENSION citext SCHEMA "Ex t";
CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE public.items (id `+c.kind+` PRIMARY KEY, secret text); INSERT INTO public.items VALUES (`+c.before+`, 'secret')`, between(func() {
				if !sealed {
					sealed = true
					k.DB.Run(t, `UPDATE public.items SET id = `+c.after)
				}
			}))
			claim := k.Claimed(t)
			claim.Pass = 3 // each row is locked before it is written
			check(t, k.Execute(t, claim))
			k.Proven(ctx, 1)
		})
	}
}
