package backfill_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// nested is partitioned by list, below that by hash and by range; one leaf has its columns in another order, and
// columns were dropped here and there.
const nested = `CREATE TABLE public.items (gone int, tenant int NOT NULL, id bigint NOT NULL, secret text, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
ALTER TABLE public.items DROP COLUMN gone;
CREATE SCHEMA "Other, one";
CREATE TABLE "Other, one"."Leaf.1" (secret text, junk text, id bigint NOT NULL, more int, tenant int NOT NULL);
ALTER TABLE "Other, one"."Leaf.1" DROP COLUMN junk, DROP COLUMN more;
ALTER TABLE public.items ATTACH PARTITION "Other, one"."Leaf.1" FOR VALUES IN (1);
CREATE TABLE public.items_2 PARTITION OF public.items FOR VALUES IN (2) PARTITION BY HASH (id);
CREATE TABLE public.items_2a PARTITION OF public.items_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.items_2b PARTITION OF public.items_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE public.items_3 PARTITION OF public.items FOR VALUES IN (3) PARTITION BY RANGE (id);
CREATE TABLE public.items_3a PARTITION OF public.items_3 FOR VALUES FROM (MINVALUE) TO (1000);
CREATE TABLE public.items_3b PARTITION OF public.items_3 FOR VALUES FROM (1000) TO (2000);
CREATE TABLE public.items_rest PARTITION OF public.items DEFAULT;
INSERT INTO public.items SELECT 1 + i % 4, i, 'secret ' || i FROM generate_series(1, 6000) i WHERE i % 4 <> 2 OR i < 2000`

func TestEveryLeafOfAPartitionedTableIsCovered(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, nested)
	if n := len(k.Relation.Leaves); n != 6 {
		t.Fatalf("the table has %d leaves", n)
	}
	k.journey(ctx, k.Rows(t))
	if n := testenv.One[int64](t, k.DB, `SELECT count(DISTINCT relid) FROM cipherfleet.ranges WHERE pass = 0`); n != 6 {
		t.Errorf("%d leaves have ranges, want 6", n)
	}
}

func TestPartitionsByRangeOfTimeAndByHash(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"range": `CREATE TABLE public.items (id uuid, at timestamptz, secret text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE public.old PARTITION OF public.items FOR VALUES FROM (MINVALUE) TO ('2024-02-03');
CREATE TABLE public.new PARTITION OF public.items FOR VALUES FROM ('2024-02-03') TO (MAXVALUE);
INSERT INTO public.items SELECT md5(i::text)::uuid, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour', 'secret' FROM generate_series(1, 5000) i;
INSERT INTO public.items VALUES (gen_random_uuid(), '-infinity', 'secret'), (gen_random_uuid(), 'infinity', NULL)`,
		"hash": `CREATE TABLE public.items (id text COLLATE "C", secret text, PRIMARY KEY (id)) PARTITION BY HASH (id);
CREATE TABLE public.a PARTITION OF public.items FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE public.b PARTITION OF public.items FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE public.c PARTITION OF public.items FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO public.items SELECT md5(i::text), 'secret' FROM generate_series(1, 5000) i; INSERT INTO public.items VALUES ('', 'secret')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := prepare(t, t.Context(), table)
			rows := k.Rows(t)
			k.Start(t.Context(), 500)
			k.Covering(t.Context(), rows)
			if job := k.Finish(t.Context()); job.State != work.Done {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			k.Proven(t.Context(), rows)
		})
	}
}

func TestARowThatMovesToAnotherPartitionMeanwhileIsCoveredThere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	moved := false
	k = prepare(t, ctx, nested, between(func() {
		if !moved {
			moved = true
			k.DB.Run(t, `UPDATE public.items SET tenant = CASE tenant WHEN 1 THEN 2 WHEN 4 THEN 1 ELSE 4 END WHERE id % 3 = 0`)
		}
	}))
	rows := k.Rows(t)
	k.Start(ctx, 500)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, rows)
	if n := testenv.One[int64](t, k.DB, `SELECT sum(conflicts)::bigint FROM cipherfleet.ranges`); n == 0 {
		t.Error("no row moved while its chunk was under way")
	}
}

func TestAPartitionThatIsNewSinceTheJobBeganIsSwept(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, nested)
	k.Start(ctx, 500)
	check(t, k.Work(ctx))
	k.DB.Run(t, `CREATE TABLE public.items_5 PARTITION OF public.items FOR VALUES IN (5);
INSERT INTO public.items SELECT 5, i, 'secret ' || i FROM generate_series(1, 700) i`)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, k.Rows(t))
}
