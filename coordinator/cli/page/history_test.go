package page_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

func TestRowsThatWereSetAsideAreOneLine(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := page.History(&out, status.History{Table: "public.users", Column: "email", Events: []status.Entry{
		{Kind: lifecycle.KindRowQuarantined, Quarantined: 200}, {Kind: lifecycle.KindRowQuarantined, Quarantined: 1}}})
	if err != nil || !strings.Contains(out.String(), "  200 rows set aside ") || !strings.Contains(out.String(), "  row_quarantined ") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
