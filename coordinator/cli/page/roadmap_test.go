package page_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

func printed(t *testing.T, r roadmap.Roadmap) string {
	t.Helper()
	var out strings.Builder
	if err := page.Roadmap(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestColumnsOfOneTableAreFilledTogether(t *testing.T) {
	t.Parallel()
	fill := []roadmap.Step{{To: lifecycle.PhaseBackfilled, Does: "encrypt", Command: "cipherfleet backfill", Lock: "none"}}
	columns := []roadmap.Column{{Table: "public.users", Column: "email", Steps: fill}, {Table: "public.users", Column: "phone", Steps: fill},
		{Table: "public.users", Column: "done"}, {Table: "public.orders", Column: "note", Steps: fill}}
	text := printed(t, roadmap.Roadmap{Columns: columns})
	if !strings.Contains(text, "together: one backfill of public.users that names each with --column writes every row once: email, phone\n") || strings.Contains(text, "backfill of public.orders") {
		t.Error(text)
	}
}

// What differs without a step is not counted as steps.
func TestWhatDiffersIsForAPerson(t *testing.T) {
	t.Parallel()
	text := printed(t, roadmap.Roadmap{Columns: []roadmap.Column{{Table: "public.users", Column: "email", Differences: []roadmap.Difference{{What: "scheme", Wanted: "1", Is: "2"}}}}})
	if strings.Contains(text, "0 have steps") || !strings.Contains(text, "no column has a step to take") {
		t.Error(text)
	}
}
