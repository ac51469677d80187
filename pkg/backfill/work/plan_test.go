package work_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// skewed has nine tenths of its keys in a thousandth of their space.
const skewed = `CASE WHEN mod(i, 10) > 0 THEN i ELSE i::bigint * 1000003 END`

func TestHopsCutRangesOfExactlyTheSizeAskedFor(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"sparse":              `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT ` + skewed + ` FROM generate_series(1, 20000) i`,
		"random":              `CREATE TABLE public.items (id uuid PRIMARY KEY, secret text); INSERT INTO public.items SELECT gen_random_uuid() FROM generate_series(1, 20000) i`,
		"one tenant has most": `CREATE TABLE public.items (tenant int, id int, secret text, PRIMARY KEY (tenant, id)); INSERT INTO public.items SELECT CASE WHEN i % 10 < 8 THEN 1 ELSE i END, i FROM generate_series(1, 20000) i`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := prepare(t, t.Context(), table)
			k.Start(t.Context(), 1700)
			k.Covering(t.Context(), 20000)
			sizes := k.Sizes(t.Context(), k.Relation.Leaves[0])
			slices.Sort(sizes)
			if len(sizes) != 12 || sizes[0] != 20000%1700 || sizes[1] != 1700 || sizes[11] != 1700 {
				t.Errorf("20000 rows were cut into ranges of %v, want eleven of 1700 and the rest", sizes)
			}
		})
	}
}

// sampledRows lie so thinly in their pages that only a part of them is sampled.
const sampledRows = 60000

func TestASampleCutsRangesOfAboutTheSizeAskedFor(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"sparse":              `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, fill char(60) DEFAULT '') WITH (fillfactor = 10); INSERT INTO public.items SELECT ` + skewed + ` FROM generate_series(1, %d) i`,
		"one tenant has most": `CREATE TABLE public.items (tenant text, id int, secret text, fill char(60) DEFAULT '', PRIMARY KEY (tenant, id)) WITH (fillfactor = 10); INSERT INTO public.items SELECT CASE WHEN i %% 10 < 8 THEN 'a, "b"' ELSE i::text END, i FROM generate_series(1, %d) i`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := prepare(t, t.Context(), fmt.Sprintf(table, sampledRows), func(k *engine.Kit) { k.HopPages = 1 })
			if pages := k.Relation.Leaves[0].Pages; pages < 5000 {
				t.Fatalf("the table has %d pages: all of them would be sampled", pages)
			}
			k.Start(t.Context(), 5000)
			k.Covering(t.Context(), sampledRows)
			sizes := k.Sizes(t.Context(), k.Relation.Leaves[0])
			if most := slices.Max(sizes); len(sizes) < 9 || len(sizes) > 16 || most > 10000 {
				t.Errorf("%d rows were cut into ranges of %v, want about twelve of about 5000", sampledRows, sizes)
			}
		})
	}
}

func TestASampleOfASmallTableIsTheWholeOfIt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.KeyCases()["citext, int, citext"].SQL(""), func(k *engine.Kit) { k.HopPages = 1 })
	k.Start(ctx, 170)
	k.Covering(ctx, engine.SomeRows)
	sizes := k.Sizes(ctx, k.Relation.Leaves[0])
	slices.Sort(sizes)
	if len(sizes) != 8 || sizes[0] != engine.SomeRows%170 || sizes[1] != 170 || sizes[7] != 170 {
		t.Errorf("%d rows were cut into ranges of %v, want seven of 170 and the rest", engine.SomeRows, sizes)
	}
}

func TestATableWithoutStatisticsIsPlanned(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text) WITH (autovacuum_enabled = off);
INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 30000) i`)
	if n := testenv.One[float64](t, k.DB, `SELECT reltuples::float8 FROM pg_class WHERE oid = 'public.items'::regclass`); n != -1 {
		t.Fatalf("the table has statistics: %v rows", n)
	}
	k.Start(ctx, 0)
	k.Covering(ctx, 30000)
	if sizes := k.Sizes(ctx, k.Relation.Leaves[0]); !slices.Equal(sizes, []int64{10000, 10000, 10000, 0}) {
		t.Errorf("30000 rows were cut into ranges of %v", sizes)
	}
	if k.Job.Total < 15000 || k.Job.Total > 60000 {
		t.Errorf("the table is thought to hold %d rows, it holds 30000", k.Job.Total)
	}
}

func TestAnEmptyTableAndATableOfOneRow(t *testing.T) {
	t.Parallel()
	for rows, insert := range map[int64]string{0: "", 1: "INSERT INTO public.items VALUES ('', 'secret')"} {
		for _, hopPages := range []int64{0, -1} { // by hops, by sample
			t.Run(fmt.Sprintf("%d rows, hops up to %d pages", rows, hopPages), func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				k := prepare(t, ctx, "CREATE TABLE public.items (id text PRIMARY KEY, secret text); "+insert, func(k *engine.Kit) { k.HopPages = hopPages })
				k.Start(ctx, 1)
				k.Covering(ctx, rows)
				if job := k.Finish(ctx); job.State != work.Done {
					t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
				}
				k.Proven(ctx, rows)
			})
		}
	}
}
