package backfill_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

const unwatched = `UPDATE public.items SET secret = '9' WHERE id IN (3, 33); UPDATE public.items SET sealed = (SELECT sealed FROM public.items WHERE id = 1) WHERE id = 41`

// stale is a table of fifty rows of this type that were backfilled, then not watched for a while, and are to be compared.
func stale(t *testing.T, typ string, options ...option) *kit {
	t.Helper()
	k := prepare(t, t.Context(), fmt.Sprintf(`CREATE TABLE public.items (id bigint PRIMARY KEY, secret %s, note text);
INSERT INTO public.items SELECT i, nullif(i %% 10, 0)::text::%[1]s FROM generate_series(1, 50) i; ANALYZE public.items`, typ), append(options, func(k *engine.Kit) { k.Limits = work.Limits{Rows: 7} })...)
	k.Start(t.Context(), 20)
	k.Done(50)
	k.BehindCapture(unwatched)
	k.Columns = slices.Clone(k.Columns)
	k.Columns[0].Compare = true
	return k
}

// versions are the rows' versions, in the order of their keys.
func (k *kit) versions() []string {
	k.T.Helper()
	return testenv.Column[string](k.T, k.DB, `SELECT xmin::text || ' ' || ctid::text FROM public.items ORDER BY id`)
}

// of is what the log counts of the present job.
func (k *kit) ofJob() int64 {
	k.T.Helper()
	return testenv.One[int64](k.T, k.DB, `SELECT coalesce(sum(rows_processed), 0)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND job_id = $1::uuid`, k.Job.ID)
}

func (k *kit) step() work.Job {
	k.T.Helper()
	k.Job = must(k.Jobs.Step(k.T.Context(), k.Job.ID, k.Leaves()))(k.T)
	k.DB.Run(k.T, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`)
	return k.Job
}

func TestCellsOfAnotherValueAreSealedAnewAndNoOthers(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		for _, typ := range []string{"text", "bigint"} {
			t.Run(form.String()+" of "+typ, func(t *testing.T) {
				t.Parallel()
				k := stale(t, typ, engine.In(form))
				before := k.versions()
				if r := k.Verify(t.Context())[0]; r.Stale != 2 || r.Broken != 1 {
					t.Fatalf("verification found %+v", r)
				}
				k.Start(t.Context(), 20)
				k.Done(50)
				var written []int
				for i, version := range k.versions() {
					if version != before[i] {
						written = append(written, i+1)
					}
				}
				if !slices.Equal(written, []int{3, 33, 41}) || k.ofJob() != 3 {
					t.Errorf("rows %v were written, and the log counts %d", written, k.ofJob())
				}
			})
		}
	}
}

func TestOnlyAPassThatComparesIsPaidFor(t *testing.T) {
	t.Parallel()
	var looked atomic.Int64
	k := stale(t, "text", counting(&looked))
	k.Start(t.Context(), 20)
	looked.Store(0)
	check(t, k.Work(t.Context()))
	if n := looked.Load(); n != 45 {
		t.Errorf("the first pass looked at %d values, want each of 45", n)
	}
	if job := k.step(); !job.Spec.Compared || job.State != work.Sweeping {
		t.Fatalf("after the first pass the job is %+v", job)
	}
	looked.Store(0)
	k.DB.Run(t, `UPDATE public.items SET secret = 'late' WHERE id = 4`)
	k.Done(50)
	if n := looked.Load(); n != 1 {
		t.Errorf("the sweep looked at %d values, want the one that is uncovered", n)
	}
	k.Columns[0].Compare = false
	k.Start(t.Context(), 20)
	looked.Store(0)
	k.Done(50)
	if n := looked.Load(); n != 0 {
		t.Errorf("a job that is not to compare looked at %d values", n)
	}
}

func TestARowThatSomebodyHoldsIsComparedLater(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	k.Start(t.Context(), 50)
	holder := must(k.DB.Begin(t.Context()))(t)
	if _, err := holder.Exec(t.Context(), `UPDATE public.items SET note = 'held' WHERE id IN (3, 4)`); err != nil {
		t.Fatal(err)
	}
	check(t, k.Work(t.Context()))
	if job := k.step(); job.Spec.Compared {
		t.Error("the first pass left a stale row to its holder, and claims to have compared every row")
	}
	check(t, holder.Commit(t.Context()))
	k.Done(50)
	if n := k.ofJob(); n != 3 || !k.Job.Spec.Compared {
		t.Errorf("the log counts %d rows, compared %t", n, k.Job.Spec.Compared)
	}
}

func TestARangeThatWasThrownAwayIsComparedLater(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	k.Start(t.Context(), 10)
	k.DB.Run(t, `DELETE FROM cipherfleet.ranges WHERE job_id = (SELECT id FROM cipherfleet.jobs WHERE state = 'running') AND after_key = '{30}'`)
	check(t, k.Work(t.Context()))
	if k.step().Spec.Compared {
		t.Error("a range was never walked, and the pass claims to have compared every row")
	}
	k.Done(50)
	if n := k.ofJob(); n != 3 {
		t.Errorf("the log counts %d rows", n)
	}
}

func TestAStaleRowInQuarantineIsComparedAgain(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	k.DB.Run(t, `CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 3 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`)
	k.Start(t.Context(), 20)
	if job := k.Finish(t.Context()); job.State != work.Failed || k.Quarantined(t) != 1 || k.ofJob() != 2 {
		t.Fatalf("the job ended %s with %d rows in quarantine and %d written", job.State, k.Quarantined(t), k.ofJob())
	}
	k.DB.Run(t, `DROP TRIGGER never ON public.items`)
	k.Job = must(k.Retry())(t)
	k.Done(50)
	if n := k.ofJob(); n != 3 {
		t.Errorf("the log counts %d rows", n)
	}
}

// A job that failed in a later pass is tried again after capture was away once more.
func TestARetriedJobComparesAgain(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	k.DB.Run(t, `CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 9 AND NEW.sealed IS DISTINCT FROM OLD.sealed THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`)
	k.Start(t.Context(), 20)
	check(t, k.Work(t.Context()))
	k.step()
	k.BehindCapture(`ALTER TABLE public.items DISABLE TRIGGER never; UPDATE public.items SET sealed = NULL WHERE id = 9; ALTER TABLE public.items ENABLE TRIGGER never`)
	if job := k.Finish(t.Context()); job.State != work.Failed || !job.Spec.Compared {
		t.Fatalf("the job ended %s, compared %t", job.State, job.Spec.Compared)
	}
	k.DB.Run(t, `DROP TRIGGER never ON public.items`)
	k.BehindCapture(`UPDATE public.items SET secret = '8' WHERE id = 11`)
	k.Job = must(k.Retry())(t)
	k.Done(50)
}

func TestAComparingJobGoesOnWhereItStood(t *testing.T) {
	t.Parallel()
	var looked atomic.Int64
	failing, after := false, 0
	k := stale(t, "text", counting(&looked), func(k *engine.Kit) {
		inner := k.Wrap
		k.Wrap = func(t transform.Transform) transform.Transform {
			return inner(applied(func(ctx context.Context, values []transform.Value) error {
				if after++; failing && after > 4 {
					return context.DeadlineExceeded
				}
				return t.Apply(ctx, values)
			}))
		}
	})
	k.Lease = 0 // so that each chunk's cursor is kept
	k.Start(t.Context(), 50)
	looked.Store(0)
	failing, after = true, 0
	if err := k.Work(t.Context()); err == nil {
		t.Fatal("the first worker did not fail")
	}
	failing = false
	k.Done(50)
	if n := looked.Load(); n > 45+3*7 {
		t.Errorf("%d values were looked at: the second worker began at the beginning", n)
	}
	if k.ofJob() != 3 {
		t.Errorf("the log counts %d rows", k.ofJob())
	}
}

// While a chunk is compared the application writes one of its stale rows, deletes one, and a client seals a third.
func TestTheApplicationWinsAgainstAComparison(t *testing.T) {
	t.Parallel()
	var k *kit
	var newer []byte
	armed := false
	k = stale(t, "text", between(func() {
		if armed && newer == nil {
			newer = k.client(3, "newer")
			k.DB.Run(t, `UPDATE public.items SET note = 'again' WHERE id IN (2, 5, 33); DELETE FROM public.items WHERE id = 41; UPDATE public.items SET secret = 'x' WHERE id = 6`)
		}
	}))
	k.Limits, armed = work.Limits{}, true
	k.Start(t.Context(), 50)
	k.Done(49)
	if got := testenv.One[[]byte](t, k.DB, `SELECT sealed FROM public.items WHERE id = 3`); !slices.Equal(got, newer) {
		t.Error("the client's newer cell was overwritten")
	}
}

func TestAHotStaleRowIsLockedAndCompared(t *testing.T) {
	t.Parallel()
	var k *kit
	armed := false
	k = stale(t, "text", between(func() {
		if !armed {
			return
		}
		err := k.DB.InTx(t.Context(), func(tx pg.Tx) error {
			_, err := tx.Exec(t.Context(), `SELECT set_config('lock_timeout', '50ms', true)`)
			if err == nil {
				_, err = tx.Exec(t.Context(), `UPDATE public.items SET note = 'again' WHERE id IN (3, 4)`)
			}
			return err
		})
		if err != nil && pg.ClassOf(err) != pg.ClassLock {
			t.Error(err)
		}
	}))
	armed = true
	k.Start(t.Context(), 50)
	check(t, k.Work(t.Context()))
	armed = false
	if r := k.Verify(t.Context())[0]; r.Stale != 0 {
		t.Errorf("after the first pass verification found %+v: the hot row was not locked", r)
	}
	k.Done(50)
	if k.ofJob() != 3 {
		t.Errorf("the log counts %d rows", k.ofJob())
	}
}

// A row loses race after race, and when it is locked at last a client has sealed it: there is nothing left to write.
func TestAStaleRowThatAClientSealedMeanwhileStays(t *testing.T) {
	t.Parallel()
	var k *kit
	var newer []byte
	races := -1
	k = stale(t, "text", between(func() {
		switch {
		case races < 0 || newer != nil:
		case races < 2: // each time between its read and its write
			races++
			k.DB.Run(t, `UPDATE public.items SET note = 'again' WHERE id = 3`)
		default:
			newer = k.client(3, "newer")
		}
	}))
	k.Limits, races = work.Limits{}, 0
	k.Start(t.Context(), 50)
	k.Done(50)
	if got := testenv.One[[]byte](t, k.DB, `SELECT sealed FROM public.items WHERE id = 3`); newer == nil || !slices.Equal(got, newer) || k.ofJob() != 2 {
		t.Errorf("the client's cell was overwritten; the log counts %d rows", k.ofJob())
	}
}

// A source that somebody else encrypted is opened, and its cell too, before they are compared.
func TestACellOfAForeignValueIsCompared(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), pgPins, pins())
	k.Start(t.Context(), 20)
	k.Done(50)
	k.BehindCapture(`UPDATE public.items SET secret = public.pin('unseen', iv) WHERE id IN (3, 33); UPDATE public.items SET secret = public.pin('secret 4', 'sixteen bytes iv'), iv = 'sixteen bytes iv' WHERE id = 4`)
	k.Columns = slices.Clone(k.Columns)
	k.Columns[0].Compare = true
	k.Start(t.Context(), 20)
	k.Done(50)
	if n := k.ofJob(); n != 2 {
		t.Errorf("%d rows were written, want two: the third has another vector and the same value", n)
	}
}

func TestAColumnIsComparedBesideOneThatIsNot(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, phone bytea);
INSERT INTO public.items SELECT i, CASE WHEN i % 2 = 0 THEN 'user' || i END, CASE WHEN i % 3 = 0 THEN int4send(i) END FROM generate_series(1, 3000) i`,
		engine.On(pg.Table{Schema: "public", Name: "items"}, "secret", "phone"))
	k.Start(t.Context(), 700)
	k.Done(3000)
	k.BehindCapture(`UPDATE public.items SET secret = 'unseen' WHERE id IN (6, 8)`)
	k.DB.Run(t, `UPDATE public.items SET phone = 'seen' WHERE id = 9`)
	k.Columns = slices.Clone(k.Columns)
	k.Columns[0].Compare = true
	k.Start(t.Context(), 700)
	k.Done(3000)
	if n := testenv.One[int64](t, k.DB, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND column_name = 'secret' AND job_id = $1::uuid`, k.Job.ID); n != 3 {
		t.Errorf("%d rows were written, want two that were stale and one that was uncovered", n)
	}
}

// Of a job that compares the log says so, and of the column that its cells are compared once it is done.
func TestTheLogSaysWhichRunCompares(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	rewatch := func() {
		check(t, k.DB.InTx(t.Context(), func(tx pg.Tx) error {
			_, err := k.Jobs.Log.Append(t.Context(), tx, lifecycle.Event{Table: "public.items", Column: "secret", Kind: lifecycle.KindDualWriting})
			return err
		}))
	}
	rewatch()
	uncompared := func() bool {
		return must(lifecycle.Latest(t.Context(), k.DB, "public.items", "secret"))(t).Uncompared
	}
	if !uncompared() {
		t.Fatal("capture was made anew, and the log does not say so")
	}
	k.Start(t.Context(), 20)
	if _, err := k.Jobs.Create(t.Context(), work.Job{RequestID: uuid.NewString(), Relation: k.Relation.OID, Spec: k.Job.Spec}); err == nil {
		t.Error("two jobs over one table")
	}
	k.Done(50)
	if uncompared() {
		t.Error("the job is done, and the log still wants cells compared")
	}
	k.DB.Run(t, `UPDATE public.items SET secret = 'late' WHERE id = 4`)
	k.Job = must(k.Jobs.CatchUp(t.Context(), k.Job.ID, k.Leaves(), nil))(t)
	rows := testenv.One[string](t, k.DB, `SELECT string_agg(coalesce(details->>'existing', 'no'), ' ' ORDER BY id) FROM cipherfleet.events WHERE event = 'backfill_started'`)
	if rows != "no true no" {
		t.Errorf("the starts say %q, want that only the second compared", rows)
	}
}
