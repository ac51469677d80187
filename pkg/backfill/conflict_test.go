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
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// between runs f after a chunk was read and before it is written.
func between(f func()) option {
	return func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform { return &interposed{inner, f} }
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

func TestARowThatIsUpdatedAllTheTimeIsLockedAndWritten(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	reads := 0
	k = prepare(t, ctx, engine.FewItems, between(func() { // before every write, also the one under the row's lock
		if reads++; reads > 20 {
			t.Error("the hot row was read again and again")
			return
		}
		err := k.DB.InTx(ctx, func(tx pg.Tx) error {
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
	k.Start(ctx, 1000)
	check(t, k.Work(ctx))
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); n != 0 {
		t.Errorf("%d rows are uncovered after the first pass: the hot row was not locked", n)
	}
	k.Finish(ctx)
	k.Proven(ctx, 50)
}

func TestARowThatSomebodyHoldsIsLeftForLaterAndNeverQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems)
	k.Start(ctx, 1000)
	holder := must(k.DB.Begin(ctx))(t)
	if _, err := holder.Exec(ctx, `UPDATE public.items SET note = 'held' WHERE id IN (10, 20, 30)`); err != nil {
		t.Fatal(err)
	}
	check(t, k.Work(ctx))
	if got := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); got != 3 {
		t.Errorf("%d rows are uncovered while three are held: the others were to go on", got)
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); n > 6 {
		t.Errorf("the rows that nobody holds took %d chunks: they were waited for one by one", n)
	}
	if n := testenv.One[int64](t, k.DB, `SELECT skipped FROM cipherfleet.ranges WHERE pass = 0`); n != 3 {
		t.Errorf("%d rows were counted as left for later, want 3", n)
	}
	job := must(k.Jobs.Step(ctx, k.Job.ID, []uint32{k.Relation.OID}))(t)
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`)
	check(t, k.Work(ctx))
	if job = must(k.Jobs.Step(ctx, k.Job.ID, []uint32{k.Relation.OID}))(t); job.State != work.Sweeping {
		t.Fatalf("the job is %s while rows are held", job.State)
	}
	check(t, holder.Commit(ctx))
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
	if n := k.Quarantined(t); n != 0 {
		t.Errorf("%d rows were quarantined for a lock", n)
	}
}

// Whoever writes a row of a chunk that waits for another one is let in as soon as the chunk gives up, which it does long
// before its statement's time is over, and also if that is all it has. Nobody waits while the held row is held, and all
// but that one are sealed by then.
func TestAChunkGivesWayToWhomItHoldsUp(t *testing.T) {
	t.Parallel()
	const long = time.Hour
	for what, limits := range map[string]backfill.Timeouts{"the lock's time": {Lock: 300 * time.Millisecond, Statement: long}, "the statement's time": {Lock: long, Statement: 300 * time.Millisecond}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, engine.FewItems, func(k *engine.Kit) { k.Timeouts = limits })
			k.Start(ctx, 1000)
			holder := must(k.DB.Begin(ctx))(t)
			defer holder.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing
			must(holder.Exec(ctx, `UPDATE public.items SET note = 'held' WHERE id = 30`))(t)
			worked := make(chan error, 1)
			go func() { worked <- k.Work(ctx) }()
			const waiting = `SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
			testenv.Eventually(t, time.Minute, func() error {
				if testenv.One[int](t, k.DB, waiting) == 0 {
					return errors.New("the chunk does not wait yet")
				}
				return nil
			})
			patient, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			must(k.DB.Exec(patient, `UPDATE public.items SET note = 'mine' WHERE id = 29`))(t)
			check(t, <-worked)
			if n := testenv.One[int](t, k.DB, waiting); n != 0 {
				t.Errorf("%d wait although the pass is over", n)
			}
			if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NULL AND id <> 30`); n != 0 || k.Quarantined(t) != 0 {
				t.Errorf("%d rows are uncovered that nobody holds, %d are in quarantine", n, k.Quarantined(t))
			}
			check(t, holder.Commit(ctx))
			k.DB.Run(t, `UPDATE cipherfleet.ranges SET lease_until = NULL WHERE owner IS NULL`)
			k.Finish(ctx)
			k.Proven(ctx, 50)
		})
	}
}

func TestASuppressedWriteIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems+`;
CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`)
	k.Start(ctx, 1000)
	job := k.Finish(ctx)
	if job.State != work.Failed || k.Quarantined(t) != 1 {
		t.Errorf("the job ended %s with %d rows in quarantine, want failed with 1", job.State, k.Quarantined(t))
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); n != 1 {
		t.Errorf("%d rows are uncovered, want the suppressed one", n)
	}
}

func TestAQuarantinedRowThatASweepWritesIsResolved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems+`;
CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`)
	k.Start(ctx, 1000)
	check(t, k.Work(ctx))
	if n := k.Quarantined(t); n != 1 {
		t.Fatalf("%d rows are in quarantine after the first pass, want 1", n)
	}
	k.DB.Run(t, `DROP TRIGGER never ON public.items`)
	if job := k.Finish(ctx); job.State != work.Done || k.Quarantined(t) != 0 {
		t.Errorf("the job ended %s with %d rows in quarantine, want done with none", job.State, k.Quarantined(t))
	}
	k.Proven(ctx, 50)
}

func TestATriggerThatNeverLeavesTheSourceAloneEndsInQuarantine(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems+`;
CREATE FUNCTION public.restless() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN NEW.secret := NEW.secret || ''!''; END IF; RETURN NEW; END';
CREATE TRIGGER restless BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.restless()`)
	k.Start(ctx, 1000)
	job := k.Finish(ctx)
	if job.State != work.Failed || k.Quarantined(t) != 1 {
		t.Errorf("the job ended %s with %d rows in quarantine, want failed with 1", job.State, k.Quarantined(t))
	}
}

func TestARowThatTheDatabaseRefusesIsFoundByBisection(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems+`;
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id IN (5, 33) THEN RAISE EXCEPTION ''value % refused'', OLD.secret; END IF; RETURN NEW; END';
CREATE TRIGGER refuse BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	k.Start(ctx, 1000)
	job := k.Finish(ctx)
	if job.State != work.Failed || k.Quarantined(t) != 2 {
		t.Errorf("the job ended %s with %d rows in quarantine, want failed with 2", job.State, k.Quarantined(t))
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`); n != 48 {
		t.Errorf("%d rows are covered, want all but two", n)
	}
	keys := testenv.Column[string](t, k.DB, `SELECT key[1] FROM cipherfleet.quarantine ORDER BY 1`)
	if len(keys) != 2 || keys[0] != "33" || keys[1] != "5" {
		t.Errorf("quarantine holds the keys %v", keys)
	}
}

func TestAValueThatCannotBeTransformedIsFoundByBisection(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems, func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform { return refusing{inner} }
	})
	k.Start(ctx, 1000)
	job := k.Finish(ctx)
	if job.State != work.Failed || k.Quarantined(t) != 1 {
		t.Errorf("the job ended %s with %d rows in quarantine, want failed with 1", job.State, k.Quarantined(t))
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
	k = prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items VALUES (1, 'secret')`, func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform {
			return &interposed{refusing{inner}, func() { f() }}
		}
	})
	f = func() {
		f = func() {}
		k.DB.Run(t, `UPDATE public.items SET secret = 'secret 13'`)
	}
	claim := k.Claimed(t)
	claim.Pass = 3 // each row is locked before it is written
	if err := k.Execute(t, claim); err != nil || k.Quarantined(t) != 1 {
		t.Errorf("the range ended with %v and %d rows in quarantine, want 1", err, k.Quarantined(t))
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
	k := prepare(t, ctx, engine.FewItems)
	k.Timeouts.Read = time.Second
	claim := k.Claimed(t)
	executor := k.Executor(ctx, claim.Leaf)
	gate := must(k.DB.Begin(ctx))(t)
	if _, err := gate.Exec(ctx, `LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- executor.Execute(ctx, claim, func(backfill.Checkpoint) {}) }()
	begun := map[string]bool{}
	testenv.Eventually(t, time.Minute, func() error { // a second read waits: the first was given up
		for _, at := range testenv.Column[string](t, k.DB, `SELECT xact_start::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) {
			begun[at] = true
		}
		if len(begun) < 2 {
			return errors.New("only one read has waited")
		}
		return nil
	})
	check(t, gate.Rollback(ctx))
	check(t, <-ended)
	if n := k.Sealed(t); n != 50 {
		t.Errorf("%d rows were written", n)
	}
}

func TestARowThatNeverSerializesDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems+`;
CREATE FUNCTION public.busy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN RAISE EXCEPTION ''busy'' USING ERRCODE = ''40001''; END IF; RETURN NEW; END';
CREATE TRIGGER busy BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.busy()`)
	k.Start(ctx, 1000)
	check(t, k.Work(ctx))
	if n := k.Sealed(t); n != 49 {
		t.Errorf("%d rows were written, want all but one", n)
	}
	if n := k.Quarantined(t); n != 0 {
		t.Errorf("%d rows were quarantined for a serialization failure", n)
	}
	k.DB.Run(t, `DROP TRIGGER busy ON public.items`)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Errorf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
}
