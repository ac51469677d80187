package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
)

const (
	followEvery = 250 * time.Millisecond
	printEvery  = 2 * time.Second
	answerTime  = 3 * time.Second // of a look at a job
)

// follow asks how a job stands until it ends or is paused, or drain ends, and prints a line now and then. A
// coordinator that does not answer for a while is waited for: another one takes over.
func follow(drain context.Context, out io.Writer, job messages.Job, ask func() (messages.Job, error)) (messages.Job, error) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	printed := time.Time{}
	for {
		if ended := work.State(job.State).Ended(); ended || job.State == string(work.Paused) || time.Since(printed) >= printEvery {
			fmt.Fprintln(out, page.Progress(job))
			printed = time.Now()
			if ended || job.State == string(work.Paused) {
				return job, nil
			}
		}
		select {
		case <-drain.Done():
			return job, nil
		case <-tick.C:
		}
		now, err := ask()
		switch {
		case err == nil:
			job = now
		case away(err), errors.Is(err, bus.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		case drain.Err() != nil:
			return job, nil
		default:
			return job, err
		}
	}
}

// once asks, and gives up soon: a coordinator that was killed with the question in hand never answers it.
func once(work context.Context, ask func(context.Context) (messages.Job, error)) (messages.Job, error) {
	ctx, cancel := context.WithTimeout(work, answerTime)
	defer cancel()
	return ask(ctx)
}
