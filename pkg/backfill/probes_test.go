package backfill_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// TestProbes is what was found wrong with other tools of this kind, one subtest each: none of it is possible here.
func TestProbes(t *testing.T) {
	t.Parallel()
	for name, probe := range map[string]func(*testing.T){
		"re-run after an error event":                   rerunAfterAnError,
		"death between start and first checkpoint":      deathBeforeTheFirstCheckpoint,
		"row behind the cursor":                         rowBehindTheCursor,
		"plaintext changed between read and UPDATE":     plaintextChanges,
		"encrypter returns one row too few":             oneRowTooFew,
		"encrypter answers in another order":            anotherOrder,
		"encrypter returns an envelope of plaintext":    envelopeOfPlaintext,
		"encrypter passes through":                      passesThrough,
		"chunks of 40000 rows":                          hugeChunks,
		"two runners at once":                           twoRunners,
		"recovery of stale rows behind the cursor":      staleRowsBehindTheCursor,
		"re-encryption races a correct writer":          correctWriter,
		"plaintext set to NULL":                         plaintextErased,
		"connection killed in chunk 5":                  connectionKilled,
		"composite key":                                 compositeKey,
		"empty table":                                   emptyTable,
		"rows that are encrypted already are preserved": encryptedAlready,
	} {
		t.Run(name, probe)
	}
}

const hundredItems = `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, note text);
INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 100) i; ANALYZE public.items`

// few makes chunks of ten rows.
func few(k *kit) { k.limits = work.Limits{Rows: 10} }

// counting counts the values that are sealed.
func counting(n *atomic.Int64) option {
	return func(k *kit) {
		k.wrap = func(inner transform.Transform) transform.Transform { return counted{inner, n} }
	}
}

type counted struct {
	transform.Transform
	n *atomic.Int64
}

func (c counted) Apply(ctx context.Context, values []transform.Value) error {
	c.n.Add(int64(len(values)))
	return c.Transform.Apply(ctx, values)
}

// done finishes the job, and demands that every one of the rows is covered.
func (k *kit) done(rows int64) {
	k.t.Helper()
	if job := k.finish(k.t.Context()); job.State != work.Done {
		k.t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(k.t.Context(), rows)
}

// written is the sum of all checkpoints.
func (k *kit) written() int64 {
	k.t.Helper()
	return testenv.One[int64](k.t, k.db, `SELECT coalesce(sum(rows_processed), 0)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`)
}

func rerunAfterAnError(t *testing.T) {
	t.Parallel()
	var sealed atomic.Int64
	broken := errors.New("the key service is gone")
	failing := true
	k := prepare(t, t.Context(), hundredItems, few, func(k *kit) {
		k.wrap = func(inner transform.Transform) transform.Transform {
			return counted{applied(func(ctx context.Context, values []transform.Value) error {
				if failing && slices.ContainsFunc(values, func(v transform.Value) bool { return string(v.In) == "secret 50" }) {
					return broken
				}
				return inner.Apply(ctx, values)
			}), &sealed}
		}
	})
	k.start(t.Context(), 1000)
	if err := k.work(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("the first run ended with %v", err)
	}
	must(k.jobs.Fail(t.Context(), k.job.ID, "the key service is gone"))(t)
	before := k.written()
	state := must(lifecycle.Latest(t.Context(), k.db, "public.items", "secret"))(t)
	if before < 30 || before > 49 || state.Run.State != lifecycle.RunStopped || state.Run.Rows != before || state.Phase != lifecycle.PhaseBackfilling {
		t.Errorf("after the error %d rows are written, and the log folds to %+v", before, state)
	}
	failing = false
	sealed.Store(0)
	k.start(t.Context(), 1000)
	k.done(100)
	if k.written() != 100 || sealed.Load() != 100-before {
		t.Errorf("of 100 rows %d were left, %d were sealed, and the log counts %d", 100-before, sealed.Load(), k.written())
	}
}

// applied makes a transform of a function.
type applied func(context.Context, []transform.Value) error

func (f applied) Apply(ctx context.Context, values []transform.Value) error { return f(ctx, values) }

func deathBeforeTheFirstCheckpoint(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), hundredItems, few)
	claimed(t, k) // and nothing more is heard of that worker
	_, err := k.jobs.Create(t.Context(), work.Job{RequestID: uuid.NewString(), Relation: k.relation.OID, Spec: k.job.Spec})
	if live := must(k.jobs.Live(t.Context(), k.relation.OID))(t); !errors.Is(err, work.ErrBusy) || live.ID != k.job.ID {
		t.Errorf("starting again found %s, %v", live.ID, err)
	}
	k.db.Run(t, `UPDATE cipherfleet.ranges SET lease_until = clock_timestamp() - interval '1 second'`)
	k.done(100)
	if n := testenv.One[int](t, k.db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_started'`); n != 1 || k.written() != 100 {
		t.Errorf("%d starts, %d rows", n, k.written())
	}
}

func rowBehindTheCursor(t *testing.T) {
	t.Parallel()
	var k *kit
	chunks := 0
	k = prepare(t, t.Context(), `CREATE TABLE public.items (id uuid PRIMARY KEY, secret text);
INSERT INTO public.items SELECT md5(i::text)::uuid, 'secret ' || i FROM generate_series(1, 100) i; ANALYZE public.items`, few, between(func() {
		if chunks++; chunks == 5 {
			k.db.Run(t, `INSERT INTO public.items VALUES ('00000000-0000-4000-8000-000000000000', 'behind the cursor')`)
		}
	}))
	k.start(t.Context(), 1000)
	check(t, k.work(t.Context()))
	if n := testenv.One[int](t, k.db, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); n != 1 {
		t.Fatalf("%d rows are uncovered after the first pass, want the one behind it", n)
	}
	k.done(101)
}

func hugeChunks(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), `CREATE TABLE public.items (id int PRIMARY KEY, secret text);
INSERT INTO public.items SELECT i, i FROM generate_series(1, 140000) i; ANALYZE public.items`, func(k *kit) {
		k.limits = work.Limits{Rows: 40_000, Bytes: 1 << 30, Time: time.Minute}
		k.timeouts = backfill.Timeouts{Lock: time.Second, Statement: time.Minute, Read: time.Minute}
		k.lease = time.Minute
	})
	k.start(t.Context(), 1_000_000)
	k.done(140_000)
	if n := testenv.One[int64](t, k.db, `SELECT max(rows_processed) FROM cipherfleet.events`); n != 40_000 {
		t.Errorf("the largest chunk had %d rows", n)
	}
}

func twoRunners(t *testing.T) {
	t.Parallel()
	var sealed atomic.Int64
	k := prepare(t, t.Context(), `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text);
INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 2000) i; ANALYZE public.items`, few, counting(&sealed))
	k.start(t.Context(), 100)
	ids := testenv.Column[int64](t, k.db, `SELECT id FROM cipherfleet.ranges ORDER BY id`)
	ended := make(chan error)
	for range 2 {
		go func() {
			for _, id := range ids {
				claim, standing, _, err := k.ranges.Claim(t.Context(), id)
				if err == nil && standing == work.Claimed {
					err = k.executor(t.Context(), claim.Leaf).Execute(t.Context(), claim, func(backfill.Checkpoint) {})
				}
				if err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	check(t, errors.Join(<-ended, <-ended))
	k.done(2000)
	if sealed.Load() != 2000 || k.written() != 2000 {
		t.Errorf("2000 values were sealed %d times, and the log counts %d rows", sealed.Load(), k.written())
	}
	if n := testenv.One[int](t, k.db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfilled'`); n != 1 {
		t.Errorf("%d times backfilled", n)
	}
}

// behindCapture runs SQL as somebody who disables the triggers.
func (k *kit) behindCapture(sql string) {
	k.t.Helper()
	k.db.Run(k.t, `ALTER TABLE public.items DISABLE TRIGGER USER; `+sql+`;
DO $$ DECLARE name text; BEGIN
 FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.items'::regclass AND NOT tgisinternal LOOP
  EXECUTE format('ALTER TABLE public.items ENABLE ALWAYS TRIGGER %I', name);
 END LOOP; END $$`)
}

func staleRowsBehindTheCursor(t *testing.T) {
	t.Parallel()
	interrupted := errors.New("interrupted")
	chunks := 0
	k := prepare(t, t.Context(), hundredItems, few, func(k *kit) {
		k.wrap = func(inner transform.Transform) transform.Transform {
			return applied(func(ctx context.Context, values []transform.Value) error {
				if chunks++; chunks == 6 {
					return interrupted
				}
				return inner.Apply(ctx, values)
			})
		}
	})
	k.start(t.Context(), 1000)
	if err := k.work(t.Context()); !errors.Is(err, interrupted) {
		t.Fatalf("the first run ended with %v", err)
	}
	before := k.written()
	k.behindCapture(`UPDATE public.items SET secret = 'stale' WHERE id IN (3, 7)`)
	if r := k.verify(t.Context())[0]; r.Stale != 2 {
		t.Fatalf("verification found %+v", r)
	}
	k.db.Run(t, `UPDATE public.items SET sealed = NULL WHERE id IN (3, 7)`)
	k.done(100)
	if k.written() != 102 || before < 30 {
		t.Errorf("%d rows before, and %d in all: want every row once and two twice", before, k.written())
	}
}

// cellOf is a cell that a client would write for a row of public.items.
func (k *kit) cellOf(id int64, value string) []byte {
	k.t.Helper()
	scheme, _ := k.keyring.Scheme(k.columns[0].ID, k.columns[0].Scheme)
	plain := must(scheme.Codec.Encode(nil, []byte(value)))(k.t)
	address := cell.Address{Column: scheme.Column, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), id)}
	return must(k.keyring.Seal(nil, scheme, address, plain))(k.t)
}

// client writes both columns, and says so.
func (k *kit) client(id int64, value string) []byte {
	k.t.Helper()
	sealed := k.cellOf(id, value)
	check(k.t, k.db.InTx(k.t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(k.t.Context(), `SET LOCAL cipherfleet.writer = 'client'`); err != nil {
			return err
		}
		_, err := tx.Exec(k.t.Context(), `UPDATE public.items SET secret = $2, sealed = $3 WHERE id = $1`, id, value, sealed)
		return err
	}))
	return sealed
}

func correctWriter(t *testing.T) {
	t.Parallel()
	var k *kit
	var newer []byte
	k = prepare(t, t.Context(), hundredItems, between(func() {
		if newer == nil {
			newer = k.client(7, "newer")
		}
	}))
	k.start(t.Context(), 1000)
	k.done(100)
	if got := testenv.One[[]byte](t, k.db, `SELECT sealed FROM public.items WHERE id = 7`); !slices.Equal(got, newer) {
		t.Error("the writer's newer cell was overwritten")
	}
}

func plaintextErased(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), hundredItems)
	k.start(t.Context(), 1000)
	k.done(100)
	left := func() int {
		return testenv.One[int](t, k.db, `SELECT count(*) FROM public.items WHERE secret IS NULL AND sealed IS NOT NULL`)
	}
	k.db.Run(t, `UPDATE public.items SET secret = NULL WHERE id = 7`)
	if n := left(); n != 0 {
		t.Errorf("%d cells of an erased value remain", n)
	}
	k.behindCapture(`UPDATE public.items SET secret = NULL WHERE id = 8`)
	if r := k.verify(t.Context())[0]; left() != 1 || r.Uncovered != 1 {
		t.Fatalf("past capture %d cells remain, and verification found %+v", left(), r)
	}
	k.start(t.Context(), 1000)
	k.done(100)
	if n := left(); n != 0 {
		t.Errorf("%d cells of an erased value remain after another run", n)
	}
}

func connectionKilled(t *testing.T) {
	t.Parallel()
	var k *kit
	chunks := 0
	var sealed atomic.Int64
	k = prepare(t, t.Context(), hundredItems, few, func(k *kit) {
		k.wrap = func(inner transform.Transform) transform.Transform {
			return counted{&interposed{inner, func() {
				if chunks++; chunks == 5 {
					k.db.Run(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'victim'`)
				}
			}}, &sealed}
		}
	})
	claim := claimed(t, k)
	victim := must(pg.Open(t.Context(), k.db.URL, pg.Options{AppName: "victim", MaxConns: 2}))(t)
	defer victim.Close()
	executor := k.executor(t.Context(), claim.Leaf)
	executor.DB = victim
	err := executor.Execute(t.Context(), claim, func(backfill.Checkpoint) {})
	before := k.written()
	if !backfill.Retryable(err) || before < 20 || before > 50 {
		t.Fatalf("the worker got %v after %d rows", err, before)
	}
	check(t, k.ranges.Release(t.Context(), claim, backfill.ErrorClass(err)))
	sealed.Store(0)
	k.done(100)
	if k.written() != 100 || sealed.Load() != 100-before {
		t.Errorf("of %d rows that were left %d were sealed, and the log counts %d", 100-before, sealed.Load(), k.written())
	}
}

func compositeKey(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), `CREATE TABLE public.items (tenant text, seq int, secret text, PRIMARY KEY (tenant, seq));
INSERT INTO public.items SELECT 'tenant ' || i / 20, i % 20, 'secret ' || i FROM generate_series(0, 99) i; ANALYZE public.items`, func(k *kit) {
		k.limits = work.Limits{Rows: 7}
	})
	k.start(t.Context(), 30)
	k.done(100)
	if k.written() != 100 {
		t.Errorf("the log counts %d rows", k.written())
	}
	k.behindCapture(`UPDATE public.items i SET sealed = o.sealed FROM public.items o WHERE i.tenant = 'tenant 1' AND o.tenant = 'tenant 2' AND o.seq = i.seq`)
	if r := k.verify(t.Context())[0]; r.Broken != 20 || r.Covered != 80 {
		t.Errorf("with another tenant's cells verification found %+v", r)
	}
}

func emptyTable(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text)`)
	k.start(t.Context(), 1000)
	k.done(0)
	want := []string{"schema_added", "dual_writing", "backfill_started", "backfilled"}
	if got := testenv.Column[string](t, k.db, `SELECT event FROM cipherfleet.events ORDER BY id`); !slices.Equal(got, want) {
		t.Errorf("the log has %v", got)
	}
}

func encryptedAlready(t *testing.T) {
	t.Parallel()
	var sealed atomic.Int64
	k := prepare(t, t.Context(), hundredItems, counting(&sealed))
	for id := range int64(10) {
		k.client(id+1, "written by a client")
	}
	const cells = `SELECT md5(string_agg(sealed, '' ORDER BY id)) FROM public.items WHERE id <= 10`
	before := testenv.One[string](t, k.db, cells)
	k.start(t.Context(), 1000)
	k.done(100)
	if after := testenv.One[string](t, k.db, cells); after != before || sealed.Load() != 90 || k.written() != 90 {
		t.Errorf("cells were replaced: %d values sealed, %d rows written", sealed.Load(), k.written())
	}
}

func plaintextChanges(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	writes := 0
	k = prepare(t, ctx, fewItems, between(func() {
		if writes++; writes == 1 {
			k.db.Run(t, `UPDATE public.items SET secret = 'newer' WHERE id = 7`)
			k.db.Run(t, `DELETE FROM public.items WHERE id = 8`)
			k.db.Run(t, `UPDATE public.items SET id = 1009 WHERE id = 9`)
		}
	}))
	k.start(ctx, 1000)
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, 49)
	if n := testenv.One[int64](t, k.db, `SELECT sum(conflicts)::bigint FROM cipherfleet.ranges`); n < 3 {
		t.Errorf("%d conflicts were counted, want at least 3", n)
	}
}
