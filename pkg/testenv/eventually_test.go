package testenv

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// failing is a test that is expected to fail; it keeps what it was told.
type failing struct {
	testing.TB
	told string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) { f.told = fmt.Sprintf(format, args...); panic(f) }

func TestEventuallyTriesAgain(t *testing.T) {
	t.Parallel()
	calls := 0
	Eventually(t, time.Minute, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("called %d times", calls)
	}
}

func TestEventuallyFailsWithTheLastError(t *testing.T) {
	t.Parallel()
	f := &failing{TB: t}
	defer func() {
		if recover() != f || !strings.Contains(f.told, "still wrong") {
			t.Errorf("told %q", f.told)
		}
	}()
	Eventually(f, time.Millisecond, func() error { return errors.New("still wrong") })
}
