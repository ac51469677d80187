package testenv

import (
	"testing"
	"time"
)

const pollInterval = 10 * time.Millisecond

// Eventually calls holds until it returns nil and fails the test with its last error after the timeout. It is for
// what another process does; what this one does is waited for with a channel.
func Eventually(t testing.TB, timeout time.Duration, holds func() error) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("still not after %s: %v", timeout, err)
		}
	}
}
