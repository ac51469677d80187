package backfill_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// oid is a relation's, by its name.
func oid(t *testing.T, k *kit, name string) uint32 {
	t.Helper()
	return testenv.One[uint32](t, k.DB, `SELECT $1::text::regclass::oid`, name)
}

// claimIn claims a range of a leaf.
func claimIn(t *testing.T, ctx context.Context, k *kit, leaf uint32) work.Claim {
	t.Helper()
	id := testenv.One[int64](t, k.DB, `SELECT min(id) FROM cipherfleet.ranges WHERE relid = $1 AND state = 'pending' AND owner IS NULL`, leaf)
	claim, standing, _, err := k.Ranges.Claim(ctx, id)
	if err != nil || standing != work.Claimed {
		t.Fatalf("claimed as %v: %v", standing, err)
	}
	return claim
}

func TestALeafThatIsGoneIsLetGoAndTheJobGoesOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sql  string
		want work.Departure
	}{
		"dropped":              {`DROP TABLE public.items_3a`, work.Dropped},
		"dropped and replaced": {`DROP TABLE public.items_3a; CREATE TABLE public.items_3a PARTITION OF public.items_3 FOR VALUES FROM (MINVALUE) TO (1000); INSERT INTO public.items VALUES (3, 4, 'new')`, work.Dropped},
		"detached":             {`ALTER TABLE public.items_3 DETACH PARTITION public.items_3a`, work.Detached},
		"detached with others": {`ALTER TABLE public.items DETACH PARTITION public.items_3`, work.Detached},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, nested)
			k.Start(ctx, 100)
			leaf := oid(t, k, "public.items_3a")
			held, idle := claimIn(t, ctx, k, leaf), claimIn(t, ctx, k, leaf)
			x := k.Executor(ctx, leaf) // of a worker that knew it
			k.DB.Run(t, `INSERT INTO cipherfleet.quarantine (job_id, column_id, relid, key, key_hash, reason) VALUES ($1, $2, $3, '{1}', 'h', 'r')`, k.Job.ID, k.Columns[0].ID, leaf)
			k.DB.Run(t, test.sql)
			if err := x.Execute(ctx, held, func(backfill.Checkpoint) {}); !errors.Is(err, keyspace.ErrChanged) {
				t.Errorf("a worker that knew the leaf got %v", err)
			}
			if _, err := shape.Open(ctx, k.DB.DB, k.Job, leaf, k.Keyring); !errors.Is(err, keyspace.ErrChanged) {
				t.Errorf("a worker that did not know the leaf got %v", err)
			}
			for _, of := range testenv.Column[uint32](t, k.DB, `SELECT DISTINCT relid FROM cipherfleet.ranges WHERE state = 'pending'`) {
				how, err := k.Jobs.Depart(ctx, k.Job.ID, of)
				if isIn := testenv.One[bool](t, k.DB, `SELECT EXISTS (SELECT FROM pg_partition_tree('public.items') WHERE relid = $1)`, of); err != nil || (how == work.Stays) != isIn || of == leaf && how != test.want {
					t.Errorf("leaf %d: %q, %v", of, how, err)
				}
			}
			if err := k.Ranges.Renew(ctx, idle); !errors.Is(err, work.ErrLost) {
				t.Errorf("the other claim of the leaf still stands: %v", err)
			}
			if _, standing, _, err := k.Ranges.Claim(ctx, idle.ID); err != nil || standing != work.Closed {
				t.Errorf("a range of the leaf is %v, %v", standing, err)
			}
			if job := k.Finish(ctx); job.State != work.Done {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			k.Proven(ctx, k.Rows(t))
		})
	}
}

func TestALeafThatComesBackIsSwept(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, nested)
	k.Start(ctx, 100)
	check(t, k.Work(ctx))
	leaves := testenv.Column[uint32](t, k.DB, `SELECT DISTINCT relid FROM cipherfleet.ranges`)
	k.Job = must(k.Jobs.Step(ctx, k.Job.ID, leaves))(t) // the sweep that could end the job
	leaf := oid(t, k, "public.items_3a")
	k.DB.Run(t, `ALTER TABLE public.items_3 DETACH PARTITION public.items_3a`)
	if how := must(k.Jobs.Depart(ctx, k.Job.ID, leaf))(t); how != work.Detached {
		t.Fatalf("the leaf is %q", how)
	}
	k.DB.Run(t, `UPDATE public.items_3a SET sealed = NULL; ALTER TABLE public.items_3 ATTACH PARTITION public.items_3a FOR VALUES FROM (MINVALUE) TO (1000)`)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, k.Rows(t))
}

func TestATableThatWasRenamedOrAlteredLetsNoLeafGo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, sql := range map[string]string{
		"leaf renamed": `ALTER TABLE public.items_3a RENAME TO other`, "leaf moved": `ALTER TABLE public.items_3a SET SCHEMA "Other, one"`,
		"root renamed": `ALTER TABLE public.items RENAME TO things; ALTER TABLE public.items_3 DETACH PARTITION public.items_3a`,
		"root dropped": `DROP TABLE public.items CASCADE`, "source renamed": `ALTER TABLE public.items RENAME secret TO plain`,
		"capture off": `DROP TRIGGER "~cipherfleet_1_update" ON public.items`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := prepare(t, ctx, nested)
			k.Start(ctx, 100)
			leaf := oid(t, k, "public.items_3a")
			x, claim := k.Executor(ctx, leaf), claimIn(t, ctx, k, leaf)
			k.DB.Run(t, sql)
			if err := x.Execute(ctx, claim, func(backfill.Checkpoint) {}); !errors.Is(err, keyspace.ErrChanged) {
				t.Errorf("the worker got %v", err)
			}
			if how, err := k.Jobs.Depart(ctx, k.Job.ID, leaf); err != nil || how != work.Stays {
				t.Errorf("the leaf is %q, %v", how, err)
			}
			check(t, k.Ranges.Renew(ctx, claim))
		})
	}
}
