package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func cause(t *testing.T, ctx context.Context, wanted error) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Fatal("not done")
	}
	if got := context.Cause(ctx); !errors.Is(got, wanted) {
		t.Errorf("cause is %v, not %v", got, wanted)
	}
}

func TestTheFirstSignalDrainsAndTheSecondCancels(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal)
	work, drain, end := watch(t.Context(), time.Hour, quiet(), signals)
	defer end()
	if work.Err() != nil || drain.Err() != nil {
		t.Fatal("ended without a signal")
	}
	signals <- syscall.SIGTERM
	cause(t, drain, ErrDraining)
	if work.Err() != nil {
		t.Error("the first signal cancelled the work")
	}
	signals <- os.Interrupt
	cause(t, work, ErrInterrupted)
}

func TestDrainingEndsWithItsTime(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal)
	work, drain, end := watch(t.Context(), 50*time.Millisecond, quiet(), signals)
	defer end()
	signals <- os.Interrupt
	cause(t, drain, ErrDraining)
	cause(t, work, ErrDrainTime)
}

func TestTheParentEndsBoth(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(t.Context())
	work, drain, end := watch(parent, time.Hour, quiet(), make(chan os.Signal))
	defer end()
	cancel()
	cause(t, work, context.Canceled)
	cause(t, drain, context.Canceled)
}

func TestStopEndsBoth(t *testing.T) {
	t.Parallel()
	work, drain, end := watch(t.Context(), time.Hour, quiet(), make(chan os.Signal))
	end()
	cause(t, work, context.Canceled)
	cause(t, drain, context.Canceled)
}

func TestARealSignalDrains(t *testing.T) { // not parallel: it is sent to the whole process
	work, drain, stop := Signals(t.Context(), time.Hour, quiet())
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cause(t, drain, ErrDraining)
	if work.Err() != nil {
		t.Error("the first signal cancelled the work")
	}
}
