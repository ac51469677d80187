package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const mostAttempts = 50 // at one range; two at each of its chunks would be many

// journey takes a prepared table all the way, stopping and claiming anew after every single chunk: the ranges cover
// each row once, each is closed once, what the checkpoints say adds up to what was written, every cell opens.
func (k *kit) journey(ctx context.Context, rows int64) {
	k.t.Helper()
	k.limits.Rows = int(rows / 15)
	k.start(ctx, rows/4) // ranges with several cursors each, none of them at the range's end
	k.covering(ctx, rows)
	k.audit(ctx)
	stops := k.interrupted(ctx)
	if stops < 4 {
		k.t.Errorf("the work was stopped %d times inside a range, want at least 4", stops)
	}
	if job := k.finish(ctx); job.State != work.Done {
		k.t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, rows)
	for _, c := range k.columns {
		said := testenv.One[int64](k.t, k.db, `SELECT coalesce(sum(rows_processed), 0)::bigint FROM cipherfleet.events WHERE event = $1 AND table_name = $2 AND column_name = $3`,
			string(lifecycle.KindCheckpoint), c.LogTable, c.LogColumn)
		if done := testenv.One[int64](k.t, k.db, `SELECT count(*) FROM public.audit`); said != rows || done != rows {
			k.t.Errorf("checkpoints of %q add up to %d rows, %d updates were committed, want %d of each", c.Source, said, done, rows)
		}
	}
	if n := quarantined(k.t, k); n != 0 {
		k.t.Errorf("%d rows are in quarantine", n)
	}
}

const auditSQL = `CREATE TABLE public.audit (one int);
CREATE FUNCTION public.audited() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.audit VALUES (1); RETURN NULL; END';
CREATE TRIGGER audited AFTER UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION public.audited()`

// audit counts the row updates that are committed from here on.
func (k *kit) audit(context.Context) {
	k.t.Helper()
	k.db.Run(k.t, fmt.Sprintf(auditSQL, k.table.SQL()))
}

// interrupted carries every range that is pending, but stops after each chunk, by turns gently and by force, and
// claims again. It says how often it was stopped before a range was done.
func (k *kit) interrupted(ctx context.Context) (stops int64) {
	k.t.Helper()
	closed, shapes := map[int64]int{}, map[uint32]*shape.Shape{}
	for _, id := range testenv.Column[int64](k.t, k.db, `SELECT id FROM cipherfleet.ranges WHERE state = 'pending' ORDER BY md5(id::text)`) {
		for attempt := 0; ; attempt++ {
			if attempt > mostAttempts {
				k.t.Fatalf("range %d does not come to its end in %d attempts", id, attempt)
			}
			claim, standing, _, err := k.ranges.Claim(ctx, id)
			check(k.t, err)
			if standing == work.Closed {
				break
			}
			if standing != work.Claimed {
				k.t.Fatalf("range %d is %v", id, standing)
			}
			if shapes[claim.Leaf] == nil {
				shapes[claim.Leaf] = k.shape(ctx, claim.Leaf)
			}
			err = oneChunk(ctx, k.executorOf(shapes[claim.Leaf]), claim, stops%2 == 0, closed)
			switch {
			case errors.Is(err, backfill.ErrDrained), errors.Is(err, context.Canceled):
				stops++
			case err != nil:
				k.t.Fatalf("range %d: %v", id, err)
			}
			check(k.t, k.ranges.Release(ctx, claim, ""))
		}
		if closed[id] != 1 {
			k.t.Errorf("range %d was closed %d times", id, closed[id])
		}
	}
	return stops
}

// oneChunk executes a claim until it reports the first chunk, or a little longer.
func oneChunk(ctx context.Context, x *backfill.Executor, claim work.Claim, gently bool, closed map[int64]int) error {
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	drain := make(chan struct{})
	x.Drain = drain
	stopped := false
	return x.Execute(ctx, claim, func(c backfill.Checkpoint) {
		if c.Done {
			closed[claim.ID]++
		}
		switch {
		case stopped:
		case gently:
			close(drain)
		default:
			kill()
		}
		stopped = true
	})
}

// covering demands that each of the table's rows lies in exactly one range of the first pass. Postgres compares, by
// plain row comparisons that owe nothing to the engine's own.
func (k *kit) covering(ctx context.Context, rows int64) {
	k.t.Helper()
	all := int64(0)
	for _, leaf := range k.inspect(ctx).Leaves {
		contains, found := k.contains(), []int64{}
		check(k.t, k.db.InTx(ctx, func(tx pg.Tx) error {
			plainly(k.t, ctx, tx)
			found = testenv.Column[int64](k.t, tx, fmt.Sprintf(`SELECT (SELECT count(*) FROM cipherfleet.ranges r WHERE r.job_id = $1::uuid AND r.relid = $2::oid AND r.pass = 0 AND r.state <> 'split' AND %s)
 FROM ONLY %s t`, contains, leaf.Table().SQL()), k.job.ID, leaf.OID)
			return nil
		}))
		for _, n := range found {
			if n != 1 {
				k.t.Fatalf("a row of %s lies in %d ranges", leaf.Table(), n)
			}
		}
		all += int64(len(found))
	}
	if all != rows {
		k.t.Errorf("the table has %d rows, want %d", all, rows)
	}
}

// plainly lets a transaction read keys' texts, and find citext's operators by their plain names.
func plainly(t testing.TB, ctx context.Context, tx pg.Tx) {
	t.Helper()
	for _, setting := range []string{pg.Pinned, `SELECT set_config('search_path', 'public, "Ex t"', true)`} {
		_, err := tx.Exec(ctx, setting)
		check(t, err)
	}
}

// contains is "range r contains row t", in the plainest SQL there is.
func (k *kit) contains() string {
	var names, after, through []string
	for i, c := range k.key().Columns {
		column, _ := k.relation.Column(c.Name)
		names = append(names, "t."+pg.Ident(c.Name))
		after = append(after, fmt.Sprintf("r.after_key[%d]::%s", i+1, column.Type))
		through = append(through, fmt.Sprintf("r.through_key[%d]::%s", i+1, column.Type))
	}
	row := "(" + strings.Join(names, ", ") + ")"
	return fmt.Sprintf("(r.after_key IS NULL OR %s > (%s)) AND (r.through_key IS NULL OR %s <= (%s))", row, strings.Join(after, ", "), row, strings.Join(through, ", "))
}

// sizes are the rows of each range of the first pass, in the order of the ranges' ids.
func (k *kit) sizes(ctx context.Context, leaf pg.Leaf) (sizes []int64) {
	k.t.Helper()
	check(k.t, k.db.InTx(ctx, func(tx pg.Tx) error {
		plainly(k.t, ctx, tx)
		sizes = testenv.Column[int64](k.t, tx, fmt.Sprintf(`SELECT (SELECT count(*) FROM ONLY %s t WHERE %s)
 FROM cipherfleet.ranges r WHERE r.job_id = $1::uuid AND r.relid = $2::oid AND r.pass = 0 ORDER BY r.id`, leaf.Table().SQL(), k.contains()), k.job.ID, leaf.OID)
		return nil
	}))
	return sizes
}

// rowsOf counts a table's rows.
func rowsOf(t testing.TB, k *kit) int64 {
	t.Helper()
	return testenv.One[int64](t, k.db, "SELECT count(*) FROM "+k.table.SQL())
}
