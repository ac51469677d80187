package runner_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

const carriedSQL = `SELECT coalesce((SELECT w.revision - i.revision FROM cipherfleet.workers w, cipherfleet.installation i WHERE w.id = 'w'), -1)`

// A worker looks at the registry as soon as it is told that it moved; told nothing, it looks all the same.
func TestAWorkerHearsOfANewRevision(t *testing.T) {
	t.Parallel()
	db, nats := testenv.Database(t), testenv.NATS(t)
	queue, err := bus.Connect(t.Context(), bus.Config{URL: nats.URL, TokenFile: nats.TokenFile, Name: "worker"})
	check(t, err)
	defer queue.Close()
	path := t.TempDir() + "/kek.json"
	check(t, kms.CreateFile(path))
	kek, err := kms.Open(t.Context(), "file:"+path, "")
	check(t, err)
	r := &runner.Runner{DB: testenv.Open(t, db.URL).DB, Bus: queue, KEK: kek, Worker: "w", Build: "test", Slots: 1, Lease: time.Second,
		Log: slog.New(slog.DiscardHandler), Tracer: noop.NewTracerProvider().Tracer("")}
	drain, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(t.Context(), drain) }()
	carries := func() {
		t.Helper()
		testenv.Eventually(t, time.Minute, func() error {
			if behind := testenv.One[int64](t, db, carriedSQL); behind != 0 {
				return fmt.Errorf("its lease is %d revisions from the registry", behind)
			}
			return nil
		})
	}
	testenv.Eventually(t, time.Minute, func() error {
		if testenv.One[int](t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'`) == 0 {
			return fmt.Errorf("nobody listens")
		}
		return nil
	})
	soonest := time.Hour
	for i := range 5 { // a look now and then comes seconds after the one before, with which the last change was noticed
		began := time.Now()
		check(t, db.InTx(t.Context(), func(tx pg.Tx) error {
			_, err := lifecycle.BeginChange(t.Context(), tx)
			return err
		}))
		carries()
		if i > 0 {
			soonest = min(soonest, time.Since(began))
		}
	}
	if soonest > 3*time.Second {
		t.Errorf("the soonest of four changes was noticed after %v", soonest)
	}
	db.Run(t, `UPDATE cipherfleet.installation SET revision = revision + 1`)
	carries()
	cancel()
	check(t, <-ended)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
