package work_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func (k *kit) phase() lifecycle.Phase {
	k.T.Helper()
	state, err := lifecycle.Latest(k.T.Context(), k.DB, k.Columns[0].LogTable, k.Columns[0].LogColumn)
	check(k.T, err)
	return state.Phase
}

func TestAJobThatIsDoneSweepsWhatBecameUncoveredSince(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, partitioned := range []bool{false, true} {
		t.Run(fmt.Sprintf("partitioned %t", partitioned), func(t *testing.T) {
			t.Parallel()
			tail := ""
			if partitioned {
				tail = ` PARTITION BY RANGE (id); CREATE TABLE public.items_1 PARTITION OF public.items FOR VALUES FROM (0) TO (1000); CREATE TABLE public.items_2 PARTITION OF public.items DEFAULT`
			}
			k := prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text)`+tail)
			k.DB.Run(t, `INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 2000) i`)
			k.Start(ctx, 300)
			if job := k.Finish(ctx); job.State != work.Done || k.Job.Passing() {
				t.Fatalf("the job ended %s; as if the fleet had begun it by itself: %t", job.State, k.Job.Passing())
			}
			k.Index()
			k.DB.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id IN (500, 1500)`)
			for range 2 { // again and again
				job := must(k.Jobs.CatchUp(ctx, k.Job.ID, k.Leaves(), k.Leaves()))(t)
				if job.State != work.Sweeping || k.phase() != lifecycle.PhaseBackfilling {
					t.Fatalf("the job is %s, the column %s", job.State, k.phase())
				}
				if stored := must(k.Jobs.Load(ctx, job.ID))(t); !job.Passing() || !stored.Passing() {
					t.Error("nobody would know that the fleet began it by itself")
				}
				if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM cipherfleet.ranges WHERE state = 'pending'`); n != len(k.Leaves()) {
					t.Errorf("%d ranges, want one for each of %d leaves", n, len(k.Leaves()))
				}
				if job := k.Finish(ctx); job.State != work.Done || k.phase() != lifecycle.PhaseBackfilled {
					t.Fatalf("the job ended %s, the column is %s", job.State, k.phase())
				}
				k.Proven(ctx, 2000)
				k.DB.Run(t, `UPDATE public.items SET secret = secret || ' again' WHERE id = 1501; INSERT INTO public.items SELECT max(id) + 1, 'new' FROM public.items; DELETE FROM public.items WHERE id = (SELECT min(id) FROM public.items)`)
			}
			written := testenv.One[int64](t, k.DB, `SELECT sum(rows) FROM cipherfleet.ranges`)
			if said := testenv.One[int64](t, k.DB, `SELECT sum(rows_processed) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); said != written || said != 2004 {
				t.Errorf("ranges say %d rows, checkpoints %d, want 2004 of each", written, said)
			}
		})
	}
}

// Sweeping for months keeps no more ranges than sweeping once, but for those that wrote something.
func TestSweepsThatFindNothingLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 2000) i`)
	k.Start(ctx, 300)
	k.Finish(ctx)
	var counts []int
	for range 4 {
		must(k.Jobs.CatchUp(ctx, k.Job.ID, k.Leaves(), nil))(t)
		k.Finish(ctx)
		counts = append(counts, testenv.One[int](t, k.DB, `SELECT count(*) FROM cipherfleet.ranges`))
	}
	if counts[0] != counts[3] {
		t.Errorf("ranges after each sweep: %v", counts)
	}
}

func TestOnlyAColumnThatStandsOnBackfilledIsSweptAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	refused := func(k *kit, want error) {
		t.Helper()
		before := testenv.One[string](t, k.DB, `SELECT concat_ws(' ', (SELECT count(*) FROM cipherfleet.events), (SELECT count(*) FROM cipherfleet.ranges), (SELECT string_agg(state, ' ') FROM cipherfleet.jobs))`)
		if _, err := k.Jobs.CatchUp(ctx, k.Job.ID, k.Leaves(), nil); !errors.Is(err, want) {
			t.Errorf("have %v, want %v", err, want)
		}
		if after := testenv.One[string](t, k.DB, `SELECT concat_ws(' ', (SELECT count(*) FROM cipherfleet.events), (SELECT count(*) FROM cipherfleet.ranges), (SELECT string_agg(state, ' ') FROM cipherfleet.jobs))`); after != before {
			t.Errorf("a refusal changed %s to %s", before, after)
		}
	}
	idle := func(k *kit, want int) {
		t.Helper()
		if jobs := must(k.Jobs.Idle(ctx))(t); len(jobs) != want {
			t.Errorf("%d jobs are idle, want %d", len(jobs), want)
		}
	}
	k := prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items VALUES (1, 'a')`)
	k.Start(ctx, 300)
	refused(k, work.ErrState)
	idle(k, 0)
	k.Finish(ctx)
	idle(k, 1)
	first := k.Job
	k.Start(ctx, 300)
	idle(k, 0)
	second := k.Job
	k.Job = first
	refused(k, work.ErrSuperseded)
	k.Job = second
	k.Finish(ctx)
	check(t, k.DB.InTx(ctx, func(tx pg.Tx) error {
		_, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: k.Columns[0].LogTable, Column: k.Columns[0].LogColumn, Kind: lifecycle.KindCutOver})
		return err
	}))
	refused(k, work.ErrNotReady)
}

// A decryption gives a column another plaintext under the old name: the job of before knows the one that was dropped.
func TestAColumnWhosePlaintextIsAnotherIsNotSweptByTheJobOfBefore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items VALUES (1, 'a')`)
	k.Start(ctx, 300)
	k.Finish(ctx)
	apart := func(want int) {
		t.Helper()
		if jobs := must(k.Jobs.Apart(ctx))(t); len(jobs) != want {
			t.Errorf("%d columns come apart from their job, want %d", len(jobs), want)
		}
	}
	apart(0)
	k.DB.Run(t, `UPDATE cipherfleet.columns SET source_attnum = 4`)
	if _, err := k.Jobs.CatchUp(ctx, k.Job.ID, k.Leaves(), nil); !errors.Is(err, work.ErrNotReady) || k.phase() != lifecycle.PhaseBackfilled {
		t.Errorf("swept again: %v; the column is %s", err, k.phase())
	}
	apart(1)
}
