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
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

const unwatched = `UPDATE public.items SET secret = '9' WHERE id IN (3, 33); UPDATE public.items SET sealed = (SELECT sealed FROM public.items WHERE id = 1) WHERE id = 41`

// stale is a table of fifty rows of this type that were backfilled, then not watched for a while, and are to be compared.
func stale(t *testing.T, typ string, options ...option) *kit {
	t.Helper()
	k := prepare(t, t.Context(), fmt.Sprintf(`CREATE TABLE public.items (id bigint PRIMARY KEY, secret %s, note text);
INSERT INTO public.items SELECT i, nullif(i %% 10, 0)::text::%[1]s FROM generate_series(1, 50) i; ANALYZE public.items`, typ), append(options, func(k *kit) { k.limits = work.Limits{Rows: 7} })...)
	k.start(t.Context(), 20)
	k.done(50)
	k.behindCapture(unwatched)
	k.columns = slices.Clone(k.columns)
	k.columns[0].Compare = true
	return k
}

// versions are the rows' versions, in the order of their keys.
func (k *kit) versions() []string {
	k.t.Helper()
	return testenv.Column[string](k.t, k.db, `SELECT xmin::text || ' ' || ctid::text FROM public.items ORDER BY id`)
}

// of is what the log counts of the present job.
func (k *kit) ofJob() int64 {
	k.t.Helper()
	return testenv.One[int64](k.t, k.db, `SELECT coalesce(sum(rows_processed), 0)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND job_id = $1::uuid`, k.job.ID)
}

func (k *kit) step() work.Job {
	k.t.Helper()
	k.job = must(k.jobs.Step(k.t.Context(), k.job.ID, k.leaves()))(k.t)
	k.db.Run(k.t, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`)
	return k.job
}

func TestCellsOfAnotherValueAreSealedAnewAndNoOthers(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		for _, typ := range []string{"text", "bigint"} {
			t.Run(form.String()+" of "+typ, func(t *testing.T) {
				t.Parallel()
				k := stale(t, typ, in(form))
				before := k.versions()
				if r := k.verify(t.Context())[0]; r.Stale != 2 || r.Broken != 1 {
					t.Fatalf("verification found %+v", r)
				}
				k.start(t.Context(), 20)
				k.done(50)
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
	k.start(t.Context(), 20)
	looked.Store(0)
	check(t, k.work(t.Context()))
	if n := looked.Load(); n != 45 {
		t.Errorf("the first pass looked at %d values, want each of 45", n)
	}
	if job := k.step(); !job.Spec.Compared || job.State != work.Sweeping {
		t.Fatalf("after the first pass the job is %+v", job)
	}
	looked.Store(0)
	k.db.Run(t, `UPDATE public.items SET secret = 'late' WHERE id = 4`)
	k.done(50)
	if n := looked.Load(); n != 1 {
		t.Errorf("the sweep looked at %d values, want the one that is uncovered", n)
	}
	k.columns[0].Compare = false
	k.start(t.Context(), 20)
	looked.Store(0)
	k.done(50)
	if n := looked.Load(); n != 0 {
		t.Errorf("a job that is not to compare looked at %d values", n)
	}
}

func TestARowThatSomebodyHoldsIsComparedLater(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	k.start(t.Context(), 50)
	holder := must(k.db.Begin(t.Context()))(t)
	if _, err := holder.Exec(t.Context(), `UPDATE public.items SET note = 'held' WHERE id IN (3, 4)`); err != nil {
		t.Fatal(err)
	}
	check(t, k.work(t.Context()))
	if job := k.step(); job.Spec.Compared {
		t.Error("the first pass left a stale row to its holder, and claims to have compared every row")
	}
	check(t, holder.Commit(t.Context()))
	k.done(50)
	if n := k.ofJob(); n != 3 || !k.job.Spec.Compared {
		t.Errorf("the log counts %d rows, compared %t", n, k.job.Spec.Compared)
	}
}

func TestARangeThatWasThrownAwayIsComparedLater(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	k.start(t.Context(), 10)
	k.db.Run(t, `DELETE FROM cipherfleet.ranges WHERE job_id = (SELECT id FROM cipherfleet.jobs WHERE state = 'running') AND after_key = '{30}'`)
	check(t, k.work(t.Context()))
	if k.step().Spec.Compared {
		t.Error("a range was never walked, and the pass claims to have compared every row")
	}
	k.done(50)
	if n := k.ofJob(); n != 3 {
		t.Errorf("the log counts %d rows", n)
	}
}

func TestAStaleRowInQuarantineIsComparedAgain(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	k.db.Run(t, `CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 3 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`)
	k.start(t.Context(), 20)
	if job := k.finish(t.Context()); job.State != work.Failed || quarantined(t, k) != 1 || k.ofJob() != 2 {
		t.Fatalf("the job ended %s with %d rows in quarantine and %d written", job.State, quarantined(t, k), k.ofJob())
	}
	k.db.Run(t, `DROP TRIGGER never ON public.items`)
	k.job = must(k.retry())(t)
	k.done(50)
	if n := k.ofJob(); n != 3 {
		t.Errorf("the log counts %d rows", n)
	}
}

// A job that failed in a later pass is tried again after capture was away once more.
func TestARetriedJobComparesAgain(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	k.db.Run(t, `CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 9 AND NEW.sealed IS DISTINCT FROM OLD.sealed THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`)
	k.start(t.Context(), 20)
	check(t, k.work(t.Context()))
	k.step()
	k.behindCapture(`ALTER TABLE public.items DISABLE TRIGGER never; UPDATE public.items SET sealed = NULL WHERE id = 9; ALTER TABLE public.items ENABLE TRIGGER never`)
	if job := k.finish(t.Context()); job.State != work.Failed || !job.Spec.Compared {
		t.Fatalf("the job ended %s, compared %t", job.State, job.Spec.Compared)
	}
	k.db.Run(t, `DROP TRIGGER never ON public.items`)
	k.behindCapture(`UPDATE public.items SET secret = '8' WHERE id = 11`)
	k.job = must(k.retry())(t)
	k.done(50)
}

func TestAComparingJobGoesOnWhereItStood(t *testing.T) {
	t.Parallel()
	var looked atomic.Int64
	failing, after := false, 0
	k := stale(t, "text", counting(&looked), func(k *kit) {
		inner := k.wrap
		k.wrap = func(t transform.Transform) transform.Transform {
			return inner(applied(func(ctx context.Context, values []transform.Value) error {
				if after++; failing && after > 4 {
					return context.DeadlineExceeded
				}
				return t.Apply(ctx, values)
			}))
		}
	})
	k.lease = 0 // so that each chunk's cursor is kept
	k.start(t.Context(), 50)
	looked.Store(0)
	failing, after = true, 0
	if err := k.work(t.Context()); err == nil {
		t.Fatal("the first worker did not fail")
	}
	failing = false
	k.done(50)
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
			k.db.Run(t, `UPDATE public.items SET note = 'again' WHERE id IN (2, 5, 33); DELETE FROM public.items WHERE id = 41; UPDATE public.items SET secret = 'x' WHERE id = 6`)
		}
	}))
	k.limits, armed = work.Limits{}, true
	k.start(t.Context(), 50)
	k.done(49)
	if got := testenv.One[[]byte](t, k.db, `SELECT sealed FROM public.items WHERE id = 3`); !slices.Equal(got, newer) {
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
		err := k.db.InTx(t.Context(), func(tx pg.Tx) error {
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
	k.start(t.Context(), 50)
	check(t, k.work(t.Context()))
	armed = false
	if r := k.verify(t.Context())[0]; r.Stale != 0 {
		t.Errorf("after the first pass verification found %+v: the hot row was not locked", r)
	}
	k.done(50)
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
			k.db.Run(t, `UPDATE public.items SET note = 'again' WHERE id = 3`)
		default:
			newer = k.client(3, "newer")
		}
	}))
	k.limits, races = work.Limits{}, 0
	k.start(t.Context(), 50)
	k.done(50)
	if got := testenv.One[[]byte](t, k.db, `SELECT sealed FROM public.items WHERE id = 3`); newer == nil || !slices.Equal(got, newer) || k.ofJob() != 2 {
		t.Errorf("the client's cell was overwritten; the log counts %d rows", k.ofJob())
	}
}

// A source that somebody else encrypted is opened, and its cell too, before they are compared.
func TestACellOfAForeignValueIsCompared(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), pgPins, pins())
	k.start(t.Context(), 20)
	k.done(50)
	k.behindCapture(`UPDATE public.items SET secret = public.pin('unseen', iv) WHERE id IN (3, 33); UPDATE public.items SET secret = public.pin('secret 4', 'sixteen bytes iv'), iv = 'sixteen bytes iv' WHERE id = 4`)
	k.columns = slices.Clone(k.columns)
	k.columns[0].Compare = true
	k.start(t.Context(), 20)
	k.done(50)
	if n := k.ofJob(); n != 2 {
		t.Errorf("%d rows were written, want two: the third has another vector and the same value", n)
	}
}

func TestAColumnIsComparedBesideOneThatIsNot(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, phone bytea);
INSERT INTO public.items SELECT i, CASE WHEN i % 2 = 0 THEN 'user' || i END, CASE WHEN i % 3 = 0 THEN int4send(i) END FROM generate_series(1, 3000) i`,
		on(pg.Table{Schema: "public", Name: "items"}, "secret", "phone"))
	k.start(t.Context(), 700)
	k.done(3000)
	k.behindCapture(`UPDATE public.items SET secret = 'unseen' WHERE id IN (6, 8)`)
	k.db.Run(t, `UPDATE public.items SET phone = 'seen' WHERE id = 9`)
	k.columns = slices.Clone(k.columns)
	k.columns[0].Compare = true
	k.start(t.Context(), 700)
	k.done(3000)
	if n := testenv.One[int64](t, k.db, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND column_name = 'secret' AND job_id = $1::uuid`, k.job.ID); n != 3 {
		t.Errorf("%d rows were written, want two that were stale and one that was uncovered", n)
	}
}

// Of a job that compares the log says so, and of the column that its cells are compared once it is done.
func TestTheLogSaysWhichRunCompares(t *testing.T) {
	t.Parallel()
	k := stale(t, "text")
	rewatch := func() {
		check(t, k.db.InTx(t.Context(), func(tx pg.Tx) error {
			_, err := k.jobs.Log.Append(t.Context(), tx, lifecycle.Event{Table: "public.items", Column: "secret", Kind: lifecycle.KindDualWriting})
			return err
		}))
	}
	rewatch()
	uncompared := func() bool {
		return must(lifecycle.Latest(t.Context(), k.db, "public.items", "secret"))(t).Uncompared
	}
	if !uncompared() {
		t.Fatal("capture was made anew, and the log does not say so")
	}
	k.start(t.Context(), 20)
	if _, err := k.jobs.Create(t.Context(), work.Job{RequestID: uuid.NewString(), Relation: k.relation.OID, Spec: k.job.Spec}); err == nil {
		t.Error("two jobs over one table")
	}
	k.done(50)
	if uncompared() {
		t.Error("the job is done, and the log still wants cells compared")
	}
	k.db.Run(t, `UPDATE public.items SET secret = 'late' WHERE id = 4`)
	k.job = must(k.jobs.CatchUp(t.Context(), k.job.ID, k.leaves(), nil))(t)
	rows := testenv.One[string](t, k.db, `SELECT string_agg(coalesce(details->>'existing', 'no'), ' ' ORDER BY id) FROM cipherfleet.events WHERE event = 'backfill_started'`)
	if rows != "no true no" {
		t.Errorf("the starts say %q, want that only the second compared", rows)
	}
}
