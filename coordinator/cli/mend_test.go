package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
)

func TestAMissingRightOfAWorkerIsNamed(t *testing.T) {
	t.Parallel()
	for stopped, want := range map[string]string{"range 2 failed 5 times: 42501": "docs/operations.md", "range 2 failed 5 times: 23505": "mend what it names", "": "mend what it names"} {
		if hint := mendHint(messages.Job{StoppedBy: stopped}); !strings.Contains(hint, want) {
			t.Errorf("%q: %q", stopped, hint)
		}
	}
}

// A watch leaves what the terminal showed before in its scrollback.
func TestAWatchDoesNotClearTheScrollback(t *testing.T) {
	t.Parallel()
	if strings.Contains(redraw, "\x1b[3J") {
		t.Errorf("%q clears it", redraw)
	}
}
