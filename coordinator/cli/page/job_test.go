package page_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/messages"
)

// A job that has ended has no time left, however far its estimate was off.
func TestOnlyARunningJobHasTimeLeft(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]bool{"running": true, "sweeping": false, "done": false, "paused": false} {
		line := page.Progress(messages.Job{Table: "public.users", State: state, Rows: 50, Total: 579053, RowsPerSecond: 5})
		if got := strings.Contains(line, " left"); got != want {
			t.Errorf("%s: %q", state, line)
		}
	}
}

// What is not done yet is not called so, nor is there less than no time left.
func TestAJobIsNotRoundedToItsEnd(t *testing.T) {
	t.Parallel()
	for rows, want := range map[int64]string{29_000_000_000: " 29 % ", 99_999_999_999: " 99 % ", 100_000_000_000: " 100 % "} {
		line := page.Progress(messages.Job{State: "running", Rows: rows, Total: 100_000_000_000, RowsPerSecond: 0.1})
		if !strings.Contains(line, want) || strings.Contains(line, ", -") {
			t.Errorf("%d rows: %q", rows, line)
		}
	}
}

// While ranges are cut nothing is counted yet: there are no zeros to read.
func TestAJobThatIsPlannedCountsNothing(t *testing.T) {
	t.Parallel()
	if line := page.Progress(messages.Job{Table: "public.users", State: "planning"}); line != "public.users planning: ranges are being cut" {
		t.Errorf("%q", line)
	}
}

func TestWhyRangesWereHandedBack(t *testing.T) {
	t.Parallel()
	job := messages.Job{Table: "public.users", State: "running", HandedBack: []string{"42501", "55P03"}}
	if line := page.Progress(job); !strings.Contains(line, "handed back by workers: a right is missing in the database (42501), 55P03") {
		t.Error(line)
	}
	job.State = "done"
	if line := page.Progress(job); strings.Contains(line, "handed back") {
		t.Error(line)
	}
}
