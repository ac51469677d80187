package page

import (
	"strings"
	"testing"
	"time"

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

// TestAVerificationOfWrongTokensIsNoCleanOne, though the column's cells are proven; and estimates are called so.
func TestAVerificationOfWrongTokensIsNoCleanOne(t *testing.T) {
	t.Parallel()
	c := status.Column{Table: "users", Column: "email", Target: "cell", Schemes: []status.SchemeRows{{Number: 1, Rows: 36}}, Verified: &status.Verified{At: time.Unix(0, 0), Proven: true}}
	text := func() string {
		var b strings.Builder
		printColumn(&b, c)
		return b.String()
	}
	for _, unproven := range []bool{false, true} {
		end := "Z, every row was covered\n"
		if unproven {
			c.Verified.Unproven = []string{"email_bidx"}
			end = "Z, every row was covered, but NOT every token of email_bidx was right\n"
		}
		if page := text(); !strings.Contains(page, end) {
			t.Errorf("want %q in\n%s", end, page)
		}
	}
	for exact, want := range map[bool]string{false: "  scheme    1: about 36 cells\n", true: "  scheme    1: 36 cells\n"} {
		if c.Coverage.Exact = exact; !strings.Contains(text(), want) {
			t.Errorf("exact %t: want %q in\n%s", exact, want, text())
		}
	}
}
