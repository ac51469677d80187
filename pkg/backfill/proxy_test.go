package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// throughProxy is a table of fifty rows whose column a proxy makes that listens.
func throughProxy(t *testing.T, ctx context.Context, payload ddl.Payload) *kit {
	t.Helper()
	k := prepare(t, ctx, eqlTypeSQL+undisguisedSQL+";"+engine.FewItems, engine.Proxied(payload, targets()[payload]))
	k.Through = testenv.Open(t, k.Proxy.Start(t, k.DB.URL)).DB
	return k
}

// holdsNoPlaintext demands that no target holds its source, and that none is left over.
func holdsNoPlaintext(t *testing.T, k *kit) {
	t.Helper()
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE strpos(sealed::text, secret) > 0 OR secret IS NULL AND sealed IS NOT NULL`); n != 0 {
		t.Errorf("%d rows show their plaintext", n)
	}
}

func TestProxiedColumnsKeepEveryPromise(t *testing.T) {
	t.Parallel()
	for payload := range targets() {
		t.Run(string(payload), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := throughProxy(t, ctx, payload)
			inner, once := k.Proxy.Payload, atomic.Bool{}
			k.Proxy.Payload = func(plain string) string {
				if once.CompareAndSwap(false, true) { // the application wins
					k.DB.Run(t, `UPDATE public.items SET secret = 'changed' WHERE id BETWEEN 2 AND 5; UPDATE public.items SET secret = NULL WHERE id = 6; DELETE FROM public.items WHERE id = 7`)
				}
				return inner(plain)
			}
			k.Start(ctx, 10)
			if job := k.Finish(ctx); job.State != work.Done {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			k.Proven(ctx, 49)
			if wrong := testenv.One[int](t, k.DB, "SELECT count(*) FROM public.items WHERE secret IS DISTINCT FROM "+opened(payload, "sealed")); wrong != 0 {
				t.Errorf("%d rows hold another value", wrong)
			}
			if n := testenv.One[int](t, k.DB, `SELECT sum(rows_processed) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); n != 48 {
				t.Errorf("the checkpoints tell of %d rows, want 48", n)
			}
			k.DB.Run(t, "UPDATE public.items SET secret = 'missed' WHERE id = 9") // captured: uncovered, not stale
			if r := k.Verify(ctx)[0]; r.Uncovered != 1 {
				t.Errorf("after a missed write verification found %+v", r)
			}
		})
	}
}

// TestAProxiedRowThatLosesEveryRace is locked through the proxy, read past it, and written.
func TestAProxiedRowThatLosesEveryRace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := throughProxy(t, ctx, ddl.PayloadEQL)
	inner, races := k.Proxy.Payload, atomic.Int32{}
	var locked atomic.Bool
	k.Proxy.Payload = func(plain string) string {
		if plain == "secret 3" || strings.HasPrefix(plain, "race ") {
			if n := races.Add(1); n <= 3 {
				k.DB.Run(t, `UPDATE public.items SET secret = 'race ' || $1::int WHERE id = 3`, n)
			} else {
				_, err := k.DB.Exec(ctx, `SELECT FROM public.items WHERE id = 3 FOR UPDATE NOWAIT`)
				locked.Store(pg.Code(err) == "55P03")
			}
		}
		return inner(plain)
	}
	k.Start(ctx, 100)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
	if races.Load() != 4 || !locked.Load() {
		t.Errorf("the value was sent %d times, want three times in a race and once under the lock, which was held: %v", races.Load(), locked.Load())
	}
	if n := testenv.One[int](t, k.DB, `SELECT sum(rows_processed) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); n != 50 {
		t.Errorf("the checkpoints tell of %d rows, want 50", n)
	}
}

// TestAProxyThatShowsItsPlaintext: what it had stored is taken back, and those rows are set aside, and only those.
func TestAProxyThatShowsItsPlaintext(t *testing.T) {
	t.Parallel()
	for payload, shown := range map[ddl.Payload]string{
		ddl.PayloadJSON:  `{"v":2,"i":{"t":"items","c":"secret"},"c":%q}`,
		ddl.PayloadEQL:   `{"v":2,"i":{"t":"items","c":"secret"},"c":"x","also":[%q]}`,
		ddl.PayloadText:  `sealed: %s`,
		ddl.PayloadBytea: `sealed: %s`,
	} {
		t.Run(string(payload), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := throughProxy(t, ctx, payload)
			inner := k.Proxy.Payload
			k.Proxy.Payload = func(plain string) string {
				if strings.HasSuffix(plain, "7") { // 7, 17, 27, 37, 47
					return fmt.Sprintf(shown, plain)
				}
				return inner(plain)
			}
			k.Start(ctx, 100)
			job := k.Finish(ctx)
			if job.State != work.Failed || k.Quarantined(t) != 5 {
				t.Errorf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
			}
			holdsNoPlaintext(t, k)
			if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS DISTINCT FROM NULL`); n != 45 {
				t.Errorf("%d rows are covered, want 45", n)
			}
			if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM cipherfleet.quarantine WHERE reason LIKE '%shows its plaintext'`); n != 5 {
				t.Errorf("%d rows say why", n)
			}
		})
	}
}

// TestAProxyThatDoesNotDoItsWork writes nothing that stays: nobody encrypts, it mixes up columns, it forgets rows.
func TestAProxyThatDoesNotDoItsWork(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil  func(*testenv.EncryptingProxy)
		want   error // of the first attempt; nil: rows are set aside
		class  string
		reason string
	}{
		"nobody encrypts": {func(p *testenv.EncryptingProxy) { p.Target = "another" }, transform.ErrAnswer, "answer", ""},
		"another column's": {func(p *testenv.EncryptingProxy) {
			p.Payload = func(string) string { return `{"v":2,"i":{"t":"items","c":"other"},"c":"x"}` }
		}, nil, "", "SQLSTATE 23514"},
		"no payload": {func(p *testenv.EncryptingProxy) { p.Payload = func(string) string { return `{"a":1}` } }, nil, "", "SQLSTATE 23514"},
		"forgets rows": {func(p *testenv.EncryptingProxy) {
			p.Rewrite = func(query string) string { return query + " AND false" }
		}, nil, "", "suppresses the write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := throughProxy(t, ctx, ddl.PayloadJSON)
			tc.spoil(k.Proxy)
			k.Start(ctx, 100)
			err := k.Work(ctx)
			if !errors.Is(err, tc.want) || backfill.ErrorClass(err) != tc.class {
				t.Errorf("%v, class %q", err, backfill.ErrorClass(err))
			}
			if err != nil && strings.Contains(err.Error(), "secret 1") {
				t.Error("the error shows a value")
			}
			if n := testenv.One[int](t, k.DB, "SELECT count(sealed) FROM public.items"); n != 0 {
				t.Errorf("%d rows were written", n)
			}
			if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM cipherfleet.quarantine WHERE reason LIKE '%' || $1`, tc.reason); tc.want == nil && n != 50 {
				t.Errorf("%d rows are set aside for %q", n, tc.reason)
			}
		})
	}
}

// TestAProxyThatDies in the middle of a chunk, or between a chunk and its proof: the same range goes on later, and what
// was written is proved before the cursor passes it.
func TestAProxyThatDies(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := throughProxy(t, ctx, ddl.PayloadJSON)
	var sent atomic.Int32
	k.Proxy.Dies = func() bool { return sent.Add(1) == 25 }
	k.Start(ctx, 100)
	err := k.Work(ctx)
	if !errors.Is(err, transform.ErrEncrypter) || backfill.ErrorClass(err) != "encrypter" || !backfill.Retryable(err) {
		t.Errorf("%v, class %q", err, backfill.ErrorClass(err))
	}
	if n := testenv.One[int](t, k.DB, "SELECT count(sealed) FROM public.items"); n != 0 {
		t.Errorf("%d rows of half a chunk were written", n)
	}
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
}

// TestWhatWasWrittenBeforeADeathIsProved: rows that are covered, and that no checkpoint tells of, are looked at too.
func TestWhatWasWrittenBeforeADeathIsProved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := throughProxy(t, ctx, ddl.PayloadJSON)
	k.Start(ctx, 100)
	k.DB.Run(t, `BEGIN; SET LOCAL cipherfleet.writer = 'client';
UPDATE public.items SET sealed = jsonb_build_object('v', 2, 'i', jsonb_build_object('t', 'items', 'c', 'secret'), 'c', secret) WHERE id IN (1, 50);
UPDATE public.items SET sealed = jsonb_build_object('v', 2, 'i', jsonb_build_object('t', 'items', 'c', 'secret'), 'c', 'a fine one') WHERE id = 20; COMMIT`)
	if err := k.Work(ctx); err != nil {
		t.Fatal(err)
	}
	holdsNoPlaintext(t, k)
	if k.Quarantined(t) != 2 {
		t.Errorf("%d rows are in quarantine", k.Quarantined(t))
	}
	if fine := testenv.One[string](t, k.DB, `SELECT sealed->>'c' FROM public.items WHERE id = 20`); fine != "a fine one" {
		t.Errorf("a payload that was there already became %q", fine)
	}
	if job := k.Finish(ctx); job.State != work.Done || testenv.One[int](t, k.DB, `SELECT count(sealed) FROM public.items`) != 50 {
		t.Errorf("the sweeps ended %s: %s", job.State, job.StoppedBy)
	}
}

// TestNoProxyIsConfigured: such a worker hands the range back.
func TestNoProxyIsConfigured(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := throughProxy(t, ctx, ddl.PayloadJSON)
	k.Start(ctx, 100)
	id := testenv.One[int64](t, k.DB, `SELECT id FROM cipherfleet.ranges`)
	claim, _, _, err := k.Ranges.Claim(ctx, id)
	check(t, err)
	x := k.Executor(ctx, claim.Leaf)
	x.Proxy = nil
	if err := x.Execute(ctx, claim, func(backfill.Checkpoint) {}); !errors.Is(err, transform.ErrEncrypter) {
		t.Errorf("%v", err)
	}
}

// TestAProxyThatHidesNothing: the job stops when too many rows are set aside, and not one of the others stays exposed.
func TestAProxyThatHidesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := throughProxy(t, ctx, ddl.PayloadJSON)
	k.DB.Run(t, `INSERT INTO public.items SELECT g, 'secret ' || g FROM generate_series(51, 300) g`)
	k.Proxy.Payload = func(plain string) string { return fmt.Sprintf(`{"v":2,"i":{"t":"items","c":"secret"},"c":%q}`, plain) }
	k.Start(ctx, 1000)
	if err := k.Work(ctx); !errors.Is(err, backfill.ErrQuarantineFull) {
		t.Errorf("it stopped for %v", err)
	}
	if n := testenv.One[int](t, k.DB, `SELECT count(sealed) FROM public.items`); n != 0 {
		t.Errorf("%d rows are still exposed", n)
	}
}

// TestWhatIsSetAsideIsNotSentAgain with those rows of its chunk that the application changed first.
func TestWhatIsSetAsideIsNotSentAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := throughProxy(t, ctx, ddl.PayloadJSON)
	inner, sent := k.Proxy.Payload, atomic.Int32{}
	k.Proxy.Payload = func(plain string) string {
		switch plain {
		case "secret 2":
			k.DB.Run(t, `UPDATE public.items SET secret = 'changed' WHERE id = 3`)
		case "secret 7":
			sent.Add(1)
			return fmt.Sprintf(`{"v":2,"i":{"t":"items","c":"secret"},"c":%q}`, plain)
		}
		return inner(plain)
	}
	k.Start(ctx, 100)
	check(t, k.Work(ctx))
	if sent.Load() != 1 || k.Quarantined(t) != 1 || testenv.One[int](t, k.DB, `SELECT count(sealed) FROM public.items`) != 49 {
		t.Errorf("the value that the proxy does not hide was sent %d times; %d rows are in quarantine", sent.Load(), k.Quarantined(t))
	}
}
