package backfill_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// leaves are the oids of the table's leaves as of now.
func (k *kit) leaves() (oids []uint32) {
	k.t.Helper()
	for _, leaf := range k.inspect(k.t.Context()).Leaves {
		oids = append(oids, leaf.OID)
	}
	return oids
}

// index builds the index of uncovered rows of every leaf, as the coordinator does.
func (k *kit) index() {
	k.t.Helper()
	for _, c := range k.columns {
		column := ddl.Column{ID: c.ID, Table: k.table, Source: c.Source, Target: c.Target, Key: k.key().Names()}
		for _, leaf := range k.inspect(k.t.Context()).Leaves {
			k.db.Run(k.t, column.UncoveredIndex(leaf.Named).Do[0])
		}
	}
}

func (k *kit) phase() lifecycle.Phase {
	k.t.Helper()
	state, err := lifecycle.Latest(k.t.Context(), k.db, k.columns[0].LogTable, k.columns[0].LogColumn)
	check(k.t, err)
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
			k.db.Run(t, `INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 2000) i`)
			k.start(ctx, 300)
			if job := k.finish(ctx); job.State != work.Done {
				t.Fatalf("the job ended %s", job.State)
			}
			k.index()
			k.db.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id IN (500, 1500)`)
			for range 2 { // again and again
				job := must(k.jobs.CatchUp(ctx, k.job.ID, k.leaves(), k.leaves()))(t)
				if job.State != work.Sweeping || k.phase() != lifecycle.PhaseBackfilling {
					t.Fatalf("the job is %s, the column %s", job.State, k.phase())
				}
				if n := testenv.One[int](t, k.db, `SELECT count(*) FROM cipherfleet.ranges WHERE state = 'pending'`); n != len(k.leaves()) {
					t.Errorf("%d ranges, want one for each of %d leaves", n, len(k.leaves()))
				}
				if job := k.finish(ctx); job.State != work.Done || k.phase() != lifecycle.PhaseBackfilled {
					t.Fatalf("the job ended %s, the column is %s", job.State, k.phase())
				}
				k.proven(ctx, 2000)
				k.db.Run(t, `UPDATE public.items SET secret = secret || ' again' WHERE id = 1501; INSERT INTO public.items SELECT max(id) + 1, 'new' FROM public.items; DELETE FROM public.items WHERE id = (SELECT min(id) FROM public.items)`)
			}
			written := testenv.One[int64](t, k.db, `SELECT sum(rows) FROM cipherfleet.ranges`)
			if said := testenv.One[int64](t, k.db, `SELECT sum(rows_processed) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); said != written || said != 2004 {
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
	k.start(ctx, 300)
	k.finish(ctx)
	var counts []int
	for range 4 {
		must(k.jobs.CatchUp(ctx, k.job.ID, k.leaves(), nil))(t)
		k.finish(ctx)
		counts = append(counts, testenv.One[int](t, k.db, `SELECT count(*) FROM cipherfleet.ranges`))
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
		before := testenv.One[string](t, k.db, `SELECT concat_ws(' ', (SELECT count(*) FROM cipherfleet.events), (SELECT count(*) FROM cipherfleet.ranges), (SELECT string_agg(state, ' ') FROM cipherfleet.jobs))`)
		if _, err := k.jobs.CatchUp(ctx, k.job.ID, k.leaves(), nil); !errors.Is(err, want) {
			t.Errorf("have %v, want %v", err, want)
		}
		if after := testenv.One[string](t, k.db, `SELECT concat_ws(' ', (SELECT count(*) FROM cipherfleet.events), (SELECT count(*) FROM cipherfleet.ranges), (SELECT string_agg(state, ' ') FROM cipherfleet.jobs))`); after != before {
			t.Errorf("a refusal changed %s to %s", before, after)
		}
	}
	idle := func(k *kit, want int) {
		t.Helper()
		if jobs := must(k.jobs.Idle(ctx))(t); len(jobs) != want {
			t.Errorf("%d jobs are idle, want %d", len(jobs), want)
		}
	}
	k := prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items VALUES (1, 'a')`)
	k.start(ctx, 300)
	refused(k, work.ErrState)
	idle(k, 0)
	k.finish(ctx)
	idle(k, 1)
	first := k.job
	k.start(ctx, 300)
	idle(k, 0)
	second := k.job
	k.job = first
	refused(k, work.ErrSuperseded)
	k.job = second
	k.finish(ctx)
	check(t, k.db.InTx(ctx, func(tx pg.Tx) error {
		_, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: k.columns[0].LogTable, Column: k.columns[0].LogColumn, Kind: lifecycle.KindCutOver})
		return err
	}))
	refused(k, work.ErrNotReady)
}

// What makes a late sweep of a large table cheap: it reads the index of uncovered rows, and no row that is covered.
func TestALateSweepReadsTheIndexOfUncoveredRows(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, key := range map[string]string{"bigint": "id bigint PRIMARY KEY", "composite": "id bigint, part text DEFAULT 'p', PRIMARY KEY (part, id)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := prepare(t, ctx, `CREATE TABLE public.items (`+key+`, secret text); INSERT INTO public.items (id, secret) SELECT i, 'secret ' || i FROM generate_series(1, 5000) i`)
			k.start(ctx, 1000)
			k.finish(ctx)
			k.index()
			k.db.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id IN (7, 4711); ANALYZE public.items`)
			shape := k.shape(ctx, k.relation.Leaves[0].OID)
			for _, g := range backfill.GeneratedBy(shape) {
				if g.Name != "read, sparse true, lower bound false, upper bound false" {
					continue
				}
				plan := strings.Join(testenv.Column[string](t, k.db, "EXPLAIN "+strings.ReplaceAll(g.SQL, "$1", "5000")), "\n")
				if !strings.Contains(plan, "_uncovered_") || strings.Contains(plan, "Seq Scan") {
					t.Errorf("the sweep reads the table:\n%s", plan)
				}
				return
			}
			t.Fatal("there is no such statement")
		})
	}
}
