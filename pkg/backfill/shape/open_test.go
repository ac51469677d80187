package shape_test

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// Bounds and cells are in the order of the key's columns: another index over the same columns must not change it.
func TestTheSameColumnsInAnotherOrderAreAnotherKey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := engine.Prepare(t, ctx, `CREATE TABLE public.items (a text NOT NULL, b text NOT NULL, secret text); CREATE UNIQUE INDEX z ON public.items (a, b);
INSERT INTO public.items SELECT i, 10000 - i, 'secret' FROM generate_series(1, 3000) i`)
	k.Start(ctx, 1000)
	k.DB.Run(t, `CREATE UNIQUE INDEX a ON public.items (b, a)`)
	if names := k.Shape(ctx, k.Relation.OID).Key; names[0].Name != "a" || names[1].Name != "b" {
		t.Errorf("ranges cut by (a, b) are read by (%s, %s)", names[0].Name, names[1].Name)
	}
	k.DB.Run(t, `DROP INDEX public.z`)
	if _, err := shape.Open(ctx, k.DB.DB, k.Job, k.Relation.OID, k.Keyring); !errors.Is(err, keyspace.ErrChanged) {
		t.Errorf("without the index that the ranges were cut by, the table opens with %v", err)
	}
	k.DB.Run(t, `CREATE UNIQUE INDEX y ON public.items (a, b)`)
	k.Finish(ctx)
	k.Proven(ctx, 3000)
}
