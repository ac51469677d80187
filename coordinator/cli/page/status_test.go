package page

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
)

// TestNothingIsCalledWholeThatIsNot: rows that are left are not rounded away.
func TestNothingIsCalledWholeThatIsNot(t *testing.T) {
	t.Parallel()
	for covered, want := range map[int64]string{30003: "(100.0 %)", 29999: "(99.9 %)", 0: "(0.0 %)"} {
		if line := coverageLine(status.Coverage{Covered: covered, Total: 30003}); !strings.Contains(line, want) {
			t.Errorf("%d of 30003 rows are %q, want %s", covered, line, want)
		}
	}
}
