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
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
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
func few(k *engine.Kit) { k.Limits = work.Limits{Rows: 10} }

// counting counts the values that are sealed.
func counting(n *atomic.Int64) option {
	return func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform { return counted{inner, n} }
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

// written is the sum of all checkpoints.
func (k *kit) written() int64 {
	k.T.Helper()
	return testenv.One[int64](k.T, k.DB, `SELECT coalesce(sum(rows_processed), 0)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`)
}

func rerunAfterAnError(t *testing.T) {
	t.Parallel()
	var sealed atomic.Int64
	broken := errors.New("the key service is gone")
	failing := true
	k := prepare(t, t.Context(), hundredItems, few, func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform {
			return counted{applied(func(ctx context.Context, values []transform.Value) error {
				if failing && slices.ContainsFunc(values, func(v transform.Value) bool { return string(v.In) == "secret 50" }) {
					return broken
				}
				return inner.Apply(ctx, values)
			}), &sealed}
		}
	})
	k.Start(t.Context(), 1000)
	if err := k.Work(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("the first run ended with %v", err)
	}
	must(k.Jobs.Fail(t.Context(), k.Job.ID, "the key service is gone"))(t)
	before := k.written()
	state := must(lifecycle.Latest(t.Context(), k.DB, "public.items", "secret"))(t)
	if before < 30 || before > 49 || state.Run.State != lifecycle.RunStopped || state.Run.Rows != before || state.Phase != lifecycle.PhaseBackfilling {
		t.Errorf("after the error %d rows are written, and the log folds to %+v", before, state)
	}
	failing = false
	sealed.Store(0)
	k.Start(t.Context(), 1000)
	k.Done(100)
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
	k.Claimed(t) // and nothing more is heard of that worker
	_, err := k.Jobs.Create(t.Context(), work.Job{RequestID: uuid.NewString(), Relation: k.Relation.OID, Spec: k.Job.Spec})
	if live := must(k.Jobs.Live(t.Context(), k.Relation.OID))(t); !errors.Is(err, work.ErrBusy) || live.ID != k.Job.ID {
		t.Errorf("starting again found %s, %v", live.ID, err)
	}
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET lease_until = clock_timestamp() - interval '1 second'`)
	k.Done(100)
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_started'`); n != 1 || k.written() != 100 {
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
			k.DB.Run(t, `INSERT INTO public.items VALUES ('00000000-0000-4000-8000-000000000000', 'behind the cursor')`)
		}
	}))
	k.Start(t.Context(), 1000)
	check(t, k.Work(t.Context()))
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); n != 1 {
		t.Fatalf("%d rows are uncovered after the first pass, want the one behind it", n)
	}
	k.Done(101)
}

func hugeChunks(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), `CREATE TABLE public.items (id int PRIMARY KEY, secret text);
INSERT INTO public.items SELECT i, i FROM generate_series(1, 140000) i; ANALYZE public.items`, func(k *engine.Kit) {
		k.Limits = work.Limits{Rows: 40_000, Bytes: 1 << 30, Time: time.Minute}
		k.Timeouts = backfill.Timeouts{Lock: time.Second, Statement: time.Minute, Read: time.Minute}
		k.Lease = time.Minute
	})
	k.Start(t.Context(), 1_000_000)
	k.Done(140_000)
	if n := testenv.One[int64](t, k.DB, `SELECT max(rows_processed) FROM cipherfleet.events`); n != 40_000 {
		t.Errorf("the largest chunk had %d rows", n)
	}
}

func twoRunners(t *testing.T) {
	t.Parallel()
	var sealed atomic.Int64
	k := prepare(t, t.Context(), `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text);
INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 2000) i; ANALYZE public.items`, few, counting(&sealed))
	k.Start(t.Context(), 100)
	ids := testenv.Column[int64](t, k.DB, `SELECT id FROM cipherfleet.ranges ORDER BY id`)
	ended := make(chan error)
	for range 2 {
		go func() {
			for _, id := range ids {
				claim, standing, _, err := k.Ranges.Claim(t.Context(), id)
				if err == nil && standing == work.Claimed {
					err = k.Executor(t.Context(), claim.Leaf).Execute(t.Context(), claim, func(backfill.Checkpoint) {})
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
	k.Done(2000)
	if sealed.Load() != 2000 || k.written() != 2000 {
		t.Errorf("2000 values were sealed %d times, and the log counts %d rows", sealed.Load(), k.written())
	}
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfilled'`); n != 1 {
		t.Errorf("%d times backfilled", n)
	}
}

func staleRowsBehindTheCursor(t *testing.T) {
	t.Parallel()
	interrupted := errors.New("interrupted")
	chunks := 0
	k := prepare(t, t.Context(), hundredItems, few, func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform {
			return applied(func(ctx context.Context, values []transform.Value) error {
				if chunks++; chunks == 6 {
					return interrupted
				}
				return inner.Apply(ctx, values)
			})
		}
	})
	k.Start(t.Context(), 1000)
	if err := k.Work(t.Context()); !errors.Is(err, interrupted) {
		t.Fatalf("the first run ended with %v", err)
	}
	before := k.written()
	k.BehindCapture(`UPDATE public.items SET secret = 'stale' WHERE id IN (3, 7)`)
	if r := k.Verify(t.Context())[0]; r.Stale != 2 {
		t.Fatalf("verification found %+v", r)
	}
	k.DB.Run(t, `UPDATE public.items SET sealed = NULL WHERE id IN (3, 7)`)
	k.Done(100)
	if k.written() != 102 || before < 30 {
		t.Errorf("%d rows before, and %d in all: want every row once and two twice", before, k.written())
	}
}

// cellOf is a cell that a client would write for a row of public.items.
func (k *kit) cellOf(id int64, value string) []byte {
	k.T.Helper()
	scheme, _ := k.Keyring.Scheme(k.Columns[0].ID, k.Columns[0].Scheme)
	plain := must(scheme.Codec.Encode(nil, []byte(value)))(k.T)
	address := cell.Address{Column: scheme.Column, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), id)}
	return must(k.Keyring.Seal(nil, scheme, address, plain))(k.T)
}

// client writes both columns, and says so.
func (k *kit) client(id int64, value string) []byte {
	k.T.Helper()
	sealed := k.cellOf(id, value)
	check(k.T, k.DB.InTx(k.T.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(k.T.Context(), `SET LOCAL cipherfleet.writer = 'client'`); err != nil {
			return err
		}
		_, err := tx.Exec(k.T.Context(), `UPDATE public.items SET secret = $2, sealed = $3 WHERE id = $1`, id, value, sealed)
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
	k.Start(t.Context(), 1000)
	k.Done(100)
	if got := testenv.One[[]byte](t, k.DB, `SELECT sealed FROM public.items WHERE id = 7`); !slices.Equal(got, newer) {
		t.Error("the writer's newer cell was overwritten")
	}
}

func plaintextErased(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), hundredItems)
	k.Start(t.Context(), 1000)
	k.Done(100)
	left := func() int {
		return testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE secret IS NULL AND sealed IS NOT NULL`)
	}
	k.DB.Run(t, `UPDATE public.items SET secret = NULL WHERE id = 7`)
	if n := left(); n != 0 {
		t.Errorf("%d cells of an erased value remain", n)
	}
	k.BehindCapture(`UPDATE public.items SET secret = NULL WHERE id = 8`)
	if r := k.Verify(t.Context())[0]; left() != 1 || r.Uncovered != 1 {
		t.Fatalf("past capture %d cells remain, and verification found %+v", left(), r)
	}
	k.Start(t.Context(), 1000)
	k.Done(100)
	if n := left(); n != 0 {
		t.Errorf("%d cells of an erased value remain after another run", n)
	}
}

func connectionKilled(t *testing.T) {
	t.Parallel()
	var k *kit
	chunks := 0
	var sealed atomic.Int64
	k = prepare(t, t.Context(), hundredItems, few, func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform {
			return counted{&interposed{inner, func() {
				if chunks++; chunks == 5 {
					k.DB.Run(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'victim'`)
				}
			}}, &sealed}
		}
	})
	claim := k.Claimed(t)
	victim := must(pg.Open(t.Context(), k.DB.URL, pg.Options{AppName: "victim", MaxConns: 2}))(t)
	defer victim.Close()
	executor := k.Executor(t.Context(), claim.Leaf)
	executor.DB = victim
	err := executor.Execute(t.Context(), claim, func(backfill.Checkpoint) {})
	before := k.written()
	if !backfill.Retryable(err) || before < 20 || before > 50 {
		t.Fatalf("the worker got %v after %d rows", err, before)
	}
	check(t, k.Ranges.Release(t.Context(), claim, backfill.ErrorClass(err)))
	sealed.Store(0)
	k.Done(100)
	if k.written() != 100 || sealed.Load() != 100-before {
		t.Errorf("of %d rows that were left %d were sealed, and the log counts %d", 100-before, sealed.Load(), k.written())
	}
}

func compositeKey(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), `CREATE TABLE public.items (tenant text, seq int, secret text, PRIMARY KEY (tenant, seq));
INSERT INTO public.items SELECT 'tenant ' || i / 20, i % 20, 'secret ' || i FROM generate_series(0, 99) i; ANALYZE public.items`, func(k *engine.Kit) {
		k.Limits = work.Limits{Rows: 7}
	})
	k.Start(t.Context(), 30)
	k.Done(100)
	if k.written() != 100 {
		t.Errorf("the log counts %d rows", k.written())
	}
	k.BehindCapture(`UPDATE public.items i SET sealed = o.sealed FROM public.items o WHERE i.tenant = 'tenant 1' AND o.tenant = 'tenant 2' AND o.seq = i.seq`)
	if r := k.Verify(t.Context())[0]; r.Broken != 20 || r.Covered != 80 {
		t.Errorf("with another tenant's cells verification found %+v", r)
	}
}

func emptyTable(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text)`)
	k.Start(t.Context(), 1000)
	k.Done(0)
	want := []string{"schema_added", "dual_writing", "backfill_started", "backfilled"}
	if got := testenv.Column[string](t, k.DB, `SELECT event FROM cipherfleet.events ORDER BY id`); !slices.Equal(got, want) {
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
	before := testenv.One[string](t, k.DB, cells)
	k.Start(t.Context(), 1000)
	k.Done(100)
	if after := testenv.One[string](t, k.DB, cells); after != before || sealed.Load() != 90 || k.written() != 90 {
		t.Errorf("cells were replaced: %d values sealed, %d rows written", sealed.Load(), k.written())
	}
}

func plaintextChanges(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	writes := 0
	k = prepare(t, ctx, engine.FewItems, between(func() {
		if writes++; writes == 1 {
			k.DB.Run(t, `UPDATE public.items SET secret = 'newer' WHERE id = 7`)
			k.DB.Run(t, `DELETE FROM public.items WHERE id = 8`)
			k.DB.Run(t, `UPDATE public.items SET id = 1009 WHERE id = 9`)
		}
	}))
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 49)
	if n := testenv.One[int64](t, k.DB, `SELECT sum(conflicts)::bigint FROM cipherfleet.ranges`); n < 3 {
		t.Errorf("%d conflicts were counted, want at least 3", n)
	}
}
