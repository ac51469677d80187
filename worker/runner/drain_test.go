package runner_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestAWorkerThatIsDrainedBeforeItBeganEndsInOrder(t *testing.T) {
	t.Parallel()
	drain, cancel := context.WithCancel(t.Context())
	cancel()
	for name, db := range map[string]*testenv.DB{"before the schema is there": testenv.EmptyDatabase(t), "at once": testenv.Database(t)} {
		r := &runner.Runner{DB: db.DB, Worker: "w", Slots: 1, Lease: time.Second, Log: slog.New(slog.DiscardHandler)}
		if err := r.Run(t.Context(), drain); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
