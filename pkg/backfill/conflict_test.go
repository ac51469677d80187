package backfill_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

const fewItems = `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, note text);
INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 50) i; ANALYZE public.items`

// between runs f after a chunk was read and before it is written.
func between(f func()) option {
	return func(k *kit) {
		k.wrap = func(inner transform.Transform) transform.Transform { return &interposed{inner, f} }
	}
}

type interposed struct {
	transform.Transform
	f func()
}

func (i *interposed) Apply(ctx context.Context, values []transform.Value) error {
	err := i.Transform.Apply(ctx, values)
	if len(values) > 0 {
		i.f()
	}
	return err
}

func quarantined(t testing.TB, k *kit) int64 {
	t.Helper()
	return testenv.One[int64](t, k.db, `SELECT count(*) FROM cipherfleet.quarantine WHERE resolved_at IS NULL`)
}

func TestARowThatIsUpdatedAllTheTimeIsLockedAndWritten(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	reads := 0
	k = prepare(t, ctx, fewItems, between(func() { // before every write, also the one under the row's lock
		if reads++; reads > 20 {
			t.Error("the hot row was read again and again")
			return
		}
		err := k.db.InTx(ctx, func(tx pg.Tx) error {
			_, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '50ms', true)`)
			if err == nil {
				_, err = tx.Exec(ctx, `UPDATE public.items SET note = 'again' WHERE id = 7`)
			}
			return err
		})
		if err != nil && pg.ClassOf(err) != pg.ClassLock {
			t.Error(err)
		}
	}))
	k.start(ctx, 1000)
	check(t, k.work(ctx))
	if n := testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); n != 0 {
		t.Errorf("%d rows are uncovered after the first pass: the hot row was not locked", n)
	}
	k.finish(ctx)
	k.proven(ctx, 50)
}

func TestARowThatSomebodyHoldsIsLeftForLaterAndNeverQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems)
	k.start(ctx, 1000)
	holder := must(k.db.Begin(ctx))(t)
	if _, err := holder.Exec(ctx, `UPDATE public.items SET note = 'held' WHERE id IN (10, 20, 30)`); err != nil {
		t.Fatal(err)
	}
	check(t, k.work(ctx))
	if got := testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); got != 3 {
		t.Errorf("%d rows are uncovered while three are held: the others were to go on", got)
	}
	if n := testenv.One[int64](t, k.db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); n > 6 {
		t.Errorf("the rows that nobody holds took %d chunks: they were waited for one by one", n)
	}
	if n := testenv.One[int64](t, k.db, `SELECT skipped FROM cipherfleet.ranges WHERE pass = 0`); n != 3 {
		t.Errorf("%d rows were counted as left for later, want 3", n)
	}
	job := must(k.jobs.Step(ctx, k.job.ID, []uint32{k.relation.OID}))(t)
	k.db.Run(t, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`)
	check(t, k.work(ctx))
	if job = must(k.jobs.Step(ctx, k.job.ID, []uint32{k.relation.OID}))(t); job.State != work.Sweeping {
		t.Fatalf("the job is %s while rows are held", job.State)
	}
	check(t, holder.Commit(ctx))
	k.db.Run(t, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`)
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, 50)
	if n := quarantined(t, k); n != 0 {
		t.Errorf("%d rows were quarantined for a lock", n)
	}
}

func TestASuppressedWriteIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems+`;
CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`)
	k.start(ctx, 1000)
	job := k.finish(ctx)
	if job.State != work.Failed || quarantined(t, k) != 1 {
		t.Errorf("the job ended %s with %d rows in quarantine, want failed with 1", job.State, quarantined(t, k))
	}
	if n := testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); n != 1 {
		t.Errorf("%d rows are uncovered, want the suppressed one", n)
	}
}

func TestAQuarantinedRowThatASweepWritesIsResolved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems+`;
CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`)
	k.start(ctx, 1000)
	check(t, k.work(ctx))
	if n := quarantined(t, k); n != 1 {
		t.Fatalf("%d rows are in quarantine after the first pass, want 1", n)
	}
	k.db.Run(t, `DROP TRIGGER never ON public.items`)
	if job := k.finish(ctx); job.State != work.Done || quarantined(t, k) != 0 {
		t.Errorf("the job ended %s with %d rows in quarantine, want done with none", job.State, quarantined(t, k))
	}
	k.proven(ctx, 50)
}

func TestATriggerThatNeverLeavesTheSourceAloneEndsInQuarantine(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems+`;
CREATE FUNCTION public.restless() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN NEW.secret := NEW.secret || ''!''; END IF; RETURN NEW; END';
CREATE TRIGGER restless BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.restless()`)
	k.start(ctx, 1000)
	job := k.finish(ctx)
	if job.State != work.Failed || quarantined(t, k) != 1 {
		t.Errorf("the job ended %s with %d rows in quarantine, want failed with 1", job.State, quarantined(t, k))
	}
}

func TestARowThatTheDatabaseRefusesIsFoundByBisection(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems+`;
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id IN (5, 33) THEN RAISE EXCEPTION ''value % refused'', OLD.secret; END IF; RETURN NEW; END';
CREATE TRIGGER refuse BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	k.start(ctx, 1000)
	job := k.finish(ctx)
	if job.State != work.Failed || quarantined(t, k) != 2 {
		t.Errorf("the job ended %s with %d rows in quarantine, want failed with 2", job.State, quarantined(t, k))
	}
	if n := testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`); n != 48 {
		t.Errorf("%d rows are covered, want all but two", n)
	}
	keys := testenv.Column[string](t, k.db, `SELECT key[1] FROM cipherfleet.quarantine ORDER BY 1`)
	if len(keys) != 2 || keys[0] != "33" || keys[1] != "5" {
		t.Errorf("quarantine holds the keys %v", keys)
	}
}

func TestAValueThatCannotBeTransformedIsFoundByBisection(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems, func(k *kit) {
		k.wrap = func(inner transform.Transform) transform.Transform { return refusing{inner} }
	})
	k.start(ctx, 1000)
	job := k.finish(ctx)
	if job.State != work.Failed || quarantined(t, k) != 1 {
		t.Errorf("the job ended %s with %d rows in quarantine, want failed with 1", job.State, quarantined(t, k))
	}
}

type refusing struct{ transform.Transform }

func (r refusing) Apply(ctx context.Context, values []transform.Value) error {
	for _, v := range values {
		if string(v.In) == "secret 13" {
			return transform.ErrValue
		}
	}
	return r.Transform.Apply(ctx, values)
}

func TestAValueThatCannotBeTransformedIsFoundUnderTheLockToo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	var f func()
	k = prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items VALUES (1, 'secret')`, func(k *kit) {
		k.wrap = func(inner transform.Transform) transform.Transform {
			return &interposed{refusing{inner}, func() { f() }}
		}
	})
	f = func() {
		f = func() {}
		k.db.Run(t, `UPDATE public.items SET secret = 'secret 13'`)
	}
	claim := claimed(t, k)
	claim.Pass = 3 // each row is locked before it is written
	if err := execute(t, k, claim); err != nil || quarantined(t, k) != 1 {
		t.Errorf("the range ended with %v and %d rows in quarantine, want 1", err, quarantined(t, k))
	}
}

type losingOne struct {
	transform.Transform
	losing *atomic.Bool
}

func (l *losingOne) Apply(ctx context.Context, values []transform.Value) error {
	err := l.Transform.Apply(ctx, values)
	if l.losing.Load() && len(values) > 0 {
		values[0].Out = nil
	}
	return err
}

func TestAReadThatTakesTooLongIsMadeSmaller(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems)
	k.timeouts.Read = 300 * time.Millisecond
	claim := claimed(t, k)
	executor := k.executor(ctx, claim.Leaf)
	gate := must(k.db.Begin(ctx))(t)
	if _, err := gate.Exec(ctx, `LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- executor.Execute(ctx, claim, func(backfill.Checkpoint) {}) }()
	begun := map[string]bool{}
	testenv.Eventually(t, 5*time.Second, func() error { // a second read waits: the first was given up
		for _, at := range testenv.Column[string](t, k.db, `SELECT xact_start::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) {
			begun[at] = true
		}
		if len(begun) < 2 {
			return errors.New("only one read has waited")
		}
		return nil
	})
	check(t, gate.Rollback(ctx))
	check(t, <-ended)
	if n := sealed(t, k); n != 50 {
		t.Errorf("%d rows were written", n)
	}
}

func TestARowThatNeverSerializesDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems+`;
CREATE FUNCTION public.busy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN RAISE EXCEPTION ''busy'' USING ERRCODE = ''40001''; END IF; RETURN NEW; END';
CREATE TRIGGER busy BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.busy()`)
	k.start(ctx, 1000)
	check(t, k.work(ctx))
	if n := sealed(t, k); n != 49 {
		t.Errorf("%d rows were written, want all but one", n)
	}
	if n := quarantined(t, k); n != 0 {
		t.Errorf("%d rows were quarantined for a serialization failure", n)
	}
	k.db.Run(t, `DROP TRIGGER busy ON public.items`)
	if job := k.finish(ctx); job.State != work.Done {
		t.Errorf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, 50)
}
