package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Why a context of Signals ended.
var (
	ErrDraining    = errors.New("draining after a signal")
	ErrInterrupted = errors.New("cancelled by a second signal")
	ErrDrainTime   = errors.New("cancelled since draining took too long")
)

// Signals returns two contexts. The first signal, SIGINT or SIGTERM, ends drain: begin nothing new and finish what is
// in hand. The second one ends work as well, and so does the passing of patience after the first. Their causes are
// the errors above. Stop returns signals to what they did before and ends both contexts; it must be called.
func Signals(parent context.Context, patience time.Duration, logger *slog.Logger) (work, drain context.Context, stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	work, drain, end := watch(parent, patience, logger, signals)
	return work, drain, func() {
		signal.Stop(signals)
		end()
	}
}

func watch(parent context.Context, patience time.Duration, logger *slog.Logger, signals <-chan os.Signal) (work, drain context.Context, end func()) {
	work, cancel := context.WithCancelCause(parent)
	drain, finish := context.WithCancelCause(work)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case received := <-signals:
			logger.Info("draining: what is in hand is finished; a second signal cancels it", "signal", received.String())
			finish(ErrDraining)
		case <-work.Done():
			return
		}
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-signals:
			cancel(ErrInterrupted)
		case <-timer.C:
			cancel(fmt.Errorf("%w: more than %s", ErrDrainTime, patience))
		case <-work.Done():
		}
	}()
	return work, drain, func() {
		cancel(context.Canceled)
		<-ended
	}
}
