package cli

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
)

// A coordinator that is killed with a question in hand never answers it; the next one is asked soon.
func TestAQuestionThatDiedWithItsCoordinatorIsAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, asked := time.Now(), 0
		question := func(ctx context.Context) (messages.Job, error) {
			if asked++; asked == 1 {
				<-ctx.Done()
				return messages.Job{}, ctx.Err()
			}
			return messages.Job{State: string(work.Done)}, nil
		}
		job, err := follow(t.Context(), io.Discard, messages.Job{State: string(work.Running)}, func() (messages.Job, error) { return once(t.Context(), question) })
		if took := time.Since(began); err != nil || job.State != string(work.Done) || took > 5*time.Second {
			t.Errorf("%s, %v after %v", job.State, err, took)
		}
	})
}
