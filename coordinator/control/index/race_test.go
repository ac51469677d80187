package index_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/blind"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func asDoubled(err error) (d *index.DoubledError) {
	errors.As(err, &d)
	return d
}

// atOnce runs what several operators have planned before any of them began.
func (o *office) atOnce(verbs ...func() error) {
	o.t.Helper()
	var all sync.WaitGroup
	for _, verb := range verbs {
		all.Go(func() {
			if err := verb(); err != nil {
				o.t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestTwoOperatorsAtOnce: who makes, builds or drops the same at the same time gets what he asked for, and it is there once.
func TestTwoOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	made, err := o.r.PlanNew(t.Context(), o.name, wanted())
	check(t, err)
	makes := func() error { _, err := o.r.New(t.Context(), made); return err }
	o.atOnce(makes, makes, makes)
	o.stands("bidx/1 filling, no index, tokens, key")
	o.token("bidx")
	built := o.planBuild(0)
	builds := func() error { _, err := o.r.Build(t.Context(), built, false); return err }
	o.atOnce(builds, builds, builds)
	o.stands("bidx/1 ready, valid, tokens, key")
	dropped := o.planDrop(0)
	drops := func() error { _, err := o.r.Drop(t.Context(), dropped, time.Minute); return err }
	o.atOnce(drops, drops, drops)
	o.stands("bidx/1 dropped, no index, no tokens, no key")
}

// heldBuild begins to build, and waits until Postgres waits, in the middle of the build, for a transaction that writes the
// table. Finish ends that transaction and says what became of the build.
func (o *office) heldBuild(ctx context.Context) (finish func() error) {
	o.t.Helper()
	_, finish = o.heldBuildBy(ctx)
	return finish
}

// heldBuildBy hands out that transaction, too.
func (o *office) heldBuildBy(ctx context.Context) (writer pg.Tx, finish func() error) {
	o.t.Helper()
	writer, err := o.Begin(o.t.Context())
	check(o.t, err)
	o.t.Cleanup(func() { _ = writer.Rollback(context.WithoutCancel(o.t.Context())) })
	_, err = writer.Exec(o.t.Context(), `UPDATE users SET note = 'x' WHERE id = 1`)
	check(o.t, err)
	p, built := o.planBuild(0), make(chan error, 1)
	go func() { _, err := o.r.Build(ctx, p, false); built <- err }()
	o.waiting()
	return writer, func() error {
		check(o.t, writer.Rollback(context.WithoutCancel(o.t.Context())))
		return <-built
	}
}

const waitingSQL = `SELECT coalesce((SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting for%'), 0)`

func (o *office) waiting() (pid int) {
	o.t.Helper()
	testenv.Eventually(o.t, time.Minute, func() error {
		if pid = testenv.One[int](o.t, o, waitingSQL); pid == 0 {
			return errors.New("the build does not wait")
		}
		return nil
	})
	return pid
}

// TestADropDuringABuild: the drop has to wait for the lock, and then wins; the build says so, and leaves nothing.
func TestADropDuringABuild(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	o.make(wanted())
	o.token("bidx")
	finish, plan, dropped := o.heldBuild(t.Context()), o.planDrop(0), make(chan error, 1)
	go func() { _, err := o.r.Drop(t.Context(), plan, 0); dropped <- err }()
	testenv.Eventually(t, time.Minute, func() error {
		if s := testenv.One[string](t, o, `SELECT state FROM cipherfleet.blind_indexes`); s != "retiring" {
			return errors.New(s)
		}
		return nil
	})
	err := finish()
	if code, hint := app.Explain(err); code != app.CodeRefused || hint == "" {
		t.Errorf("the build: exit code %d, %v, %q", code, err, hint)
	}
	check(t, <-dropped)
	o.stands("bidx/1 dropped, no index, no tokens, no key")
	if n := testenv.One[int](t, o, `SELECT count(*) FROM pg_class WHERE relname = 'cipherfleet_token_1_index'`); n != 0 {
		t.Error("an index is left")
	}
}

// TestABuildOfWhatWasDropped: it was planned before.
func TestABuildOfWhatWasDropped(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	o.make(wanted())
	p := o.planBuild(0)
	_, err := o.r.Drop(t.Context(), o.planDrop(0), time.Minute)
	check(t, err)
	o.refuses("build what was dropped since", func() error { _, err := o.r.Build(t.Context(), p, false); return err })
}

// TestABuildThatEndsHalfWay: called off, it takes away what it has begun, killed, what it left is in nobody's way; the same
// command finishes.
func TestABuildThatEndsHalfWay(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(o *office, cancel func()){
		"called off":     func(_ *office, cancel func()) { cancel() },
		"its server end": func(o *office, _ func()) { testenv.One[bool](o.t, o, `SELECT pg_terminate_backend($1)`, o.waiting()) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := backfilled(t)
			o.make(wanted())
			o.token("bidx")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			finish := o.heldBuild(ctx)
			o.stands("bidx/1 filling, invalid, tokens, key")
			end(o, cancel)
			if err := finish(); err == nil {
				t.Error("it says that it is ready")
			}
			o.stands("bidx/1 filling, no index, tokens, key")
			o.build(0)
			o.stands("bidx/1 ready, valid, tokens, key")
		})
	}
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		o := backfilled(t)
		o.make(wanted())
		o.Run(t, `UPDATE users SET bidx = '\x01'::bytea || decode(md5('one'), 'hex') WHERE id < 3`)
		if _, err := o.Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY cipherfleet_token_1_index ON users (bidx)`); pg.Code(err) != "23505" {
			t.Fatal(err)
		}
		o.stands("bidx/1 filling, invalid, tokens, key")
		o.token("bidx")
		o.build(0)
		o.stands("bidx/1 ready, valid, tokens, key")
		if p := o.planBuild(0); len(p.Statements) > 0 {
			t.Errorf("what is left to do: %q", p.Statements)
		}
	})
}

// TestWhatWasKilledGoesOn: between two statements, the same command finishes, with the key that was committed first.
func TestWhatWasKilledGoesOn(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	p, err := o.r.PlanNew(t.Context(), o.name, wanted())
	check(t, err)
	x, err := (blind.Registrar{Registrar: lifecycle.Registrar{DB: o.DB.DB, KEK: o.KEK}}).Prepare(t.Context(), p.Definition)
	check(t, err)
	o.stands("bidx/1 prepared, no index, no tokens, key")
	o.make(wanted())
	o.stands("bidx/1 filling, no index, tokens, key")
	if have := testenv.One[[]byte](t, o, `SELECT wrapped FROM cipherfleet.deks WHERE blind_index IS NOT NULL`); string(have) != string(x.Wrapped) {
		t.Error("it has another key")
	}
	o.token("bidx")
	for _, sql := range o.planBuild(0).Statements { // killed before it was noted
		o.Run(t, sql)
	}
	o.stands("bidx/1 filling, valid, tokens, key")
	o.build(0)
	o.stands("bidx/1 ready, valid, tokens, key")
	o.lease() // who has not heard of it when the drop's own patience ends
	var late *lifecycle.NotReadyError
	if _, err := o.r.Drop(t.Context(), o.planDrop(0), 0); !errors.As(err, &late) {
		t.Errorf("a program still works with it: %v", err)
	}
	o.stands("bidx/1 retiring, valid, tokens, key")
	o.Run(t, `DELETE FROM cipherfleet.workers`)
	_, err = o.r.Drop(t.Context(), o.planDrop(0), 0)
	check(t, err)
	o.stands("bidx/1 dropped, no index, no tokens, no key")
}

// TestADropStopsAtWhatDependsOnIt: it is retiring then, and nothing else has changed; the same command finishes.
func TestADropStopsAtWhatDependsOnIt(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	o.make(wanted())
	o.Run(t, `CREATE VIEW shown AS SELECT bidx FROM users`)
	_, err := o.r.Drop(t.Context(), o.planDrop(0), time.Minute)
	if code, hint := app.Explain(err); code != app.CodeRefused || hint == "" {
		t.Errorf("exit code %d, %v, %q", code, err, hint)
	}
	o.stands("bidx/1 retiring, no index, tokens, key")
	o.Run(t, `DROP VIEW shown`)
	_, err = o.r.Drop(t.Context(), o.planDrop(0), time.Minute)
	check(t, err)
	o.stands("bidx/1 dropped, no index, no tokens, no key")
}
