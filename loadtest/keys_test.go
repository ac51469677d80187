package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// moody is a key-encryption key that a test can have refuse.
type moody struct {
	cell.KEK
	class atomic.Pointer[cell.KEKClass] // nil: it does not refuse
	asked atomic.Int64
}

func (m *moody) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	m.asked.Add(1)
	if class := m.class.Load(); class != nil {
		return nil, &cell.KEKError{Class: *class, URI: m.URI(), Err: errors.New("no")}
	}
	return m.KEK.Unwrap(ctx, wrapped, aad)
}

// refuse gives the workers to come a key that refuses; the coordinator keeps its own.
func (f *formation) refuse(class cell.KEKClass) *moody {
	m := &moody{KEK: f.kek}
	m.class.Store(&class)
	f.kek = m
	return m
}

// While the key is out of reach a range is put off, as often as it takes; then the job goes on by itself.
func TestAJobOutlivesAnOutageOfItsKey(t *testing.T) {
	t.Parallel()
	f := lead(t)
	kek := f.refuse(cell.KEKUnavailable)
	f.offered()
	stop := f.worker("w1")
	defer stop()
	f.await("a range is put off", `SELECT count(*) > 0 FROM cipherfleet.ranges WHERE attempts > 1 AND error_class = 'key'`)
	if state := testenv.One[string](t, f.db, `SELECT state FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID); state != "running" && state != "planning" {
		t.Errorf("the job is %s", state)
	}
	kek.class.Store(nil)
	f.done()
}

func TestAJobWhoseKeyIsDeniedIsBlocked(t *testing.T) {
	t.Parallel()
	f := lead(t)
	f.refuse(cell.KEKDenied)
	stop := f.worker("w1")
	defer stop()
	f.await("the job fails", `SELECT state = 'failed' FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID)
	if why := testenv.One[string](t, f.db, `SELECT stopped_by FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID); !strings.Contains(why, "denied") {
		t.Errorf("it was stopped by %q", why)
	}
	if n := testenv.One[int](t, f.db, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`); n != 0 {
		t.Errorf("%d rows were sealed", n)
	}
}

// A worker hears of a scheme by itself, says that it carries it, and seals with it once it is active.
func TestAWorkerFollowsTheRegistry(t *testing.T) {
	t.Parallel()
	f := lead(t)
	stop := f.worker("w1")
	defer stop()
	f.done()
	column := testenv.One[uint32](t, f.db, `SELECT id FROM cipherfleet.columns`)
	r := lifecycle.Registrar{DB: f.db.DB, KEK: f.kek}
	s, err := r.NewScheme(t.Context(), lifecycle.Definition{Scheme: cell.Scheme{Column: column, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, Padding: 32}})
	check(t, err)
	f.db.Run(t, `INSERT INTO cipherfleet.workers (id, kind, revision, seen_at, expires_at) SELECT 'deaf', 'worker', revision - 1, now(), now() + interval '1 hour' FROM cipherfleet.installation`)
	testenv.Eventually(t, time.Minute, func() error {
		var ready *lifecycle.NotReadyError
		if err := r.ActivateScheme(t.Context(), column, s.Number); !errors.As(err, &ready) || fmt.Sprint(ready.Waiting) != "[deaf]" {
			return fmt.Errorf("who cannot hear of the scheme is not the one that is waited for: %w", err)
		}
		return nil
	})
	f.db.Run(t, `DELETE FROM cipherfleet.workers WHERE id = 'deaf'`)
	testenv.Eventually(t, time.Minute, func() error { return r.ActivateScheme(t.Context(), column, s.Number) })
}

// Whatever a job says: after the plaintext was dropped, no worker opens cells into it before somebody who may has
// recorded that in Postgres.
func TestAWorkerDecryptsADroppedColumnByPermissionAlone(t *testing.T) {
	t.Parallel()
	f := lead(t)
	stop := f.worker("w1")
	f.done()
	stop()
	happens := func(event, phase string) {
		f.db.Run(t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.items', 'secret', $1, $2)`, event, phase)
	}
	happens("cut_over", "cut-over")
	f.db.Run(t, `ALTER TABLE public.items DISABLE TRIGGER USER; UPDATE public.items SET secret = NULL; ALTER TABLE public.items ENABLE TRIGGER USER`)
	reverse := func() {
		t.Helper()
		var err error
		f.job, err = f.plane.Start(t.Context(), messages.StartRequest{RequestID: uuid.NewString(), Direction: messages.DirectionReverse, Schema: "public", Table: "items",
			Columns: []messages.ColumnRequest{{Source: "secret"}}})
		check(t, err)
	}
	opened := func() int {
		return testenv.One[int](t, f.db, `SELECT count(*) FROM public.items WHERE secret IS NOT NULL`)
	}
	reverse()
	happens("dropped", "dropped")
	stop = f.worker("w2")
	defer func() { stop() }()
	f.await("the job fails", `SELECT state = 'failed' FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID)
	if why := testenv.One[string](t, f.db, `SELECT stopped_by FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID); opened() != 0 || !strings.Contains(why, "nobody has recorded") {
		t.Errorf("%d rows are opened; it was stopped by %q", opened(), why)
	}
	check(t, lifecycle.Decrypt(t.Context(), f.db, testenv.One[uint32](t, f.db, `SELECT id FROM cipherfleet.columns`), "ada", "court order"))
	happens("advanced", "cut-over")
	reverse()
	f.await("the job ends", `SELECT state = 'done' FROM cipherfleet.jobs WHERE id::text = $1`, f.job.ID)
	if n := opened(); n != 3000 {
		t.Errorf("%d rows are opened", n)
	}
}
