package standing_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// TestADeadlockBehindALongBuildIsNoEnd: the patience is with deadlocks, and not with the build; but it ends.
func TestADeadlockBehindALongBuildIsNoEnd(t *testing.T) {
	t.Parallel()
	deadlock := &pg.Error{Code: "40P01"}
	for name, c := range map[string]struct {
		fails int
		with  error
		tries int
	}{"twice": {2, deadlock, 3}, "always": {1 << 20, deadlock, 11}, "otherwise": {1, errors.New("no room"), 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := standing.Undeadlocked(t.Context(), func() error {
					<-time.After(time.Hour)
					if tries++; tries <= c.fails {
						return c.with
					}
					return nil
				})
				if (err == nil) != (tries > c.fails) || tries != c.tries {
					t.Errorf("%d tries, %v", tries, err)
				}
			})
		})
	}
}
