package page_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
)

// A key for each tenant does not make a line for each tenant; what is left out is still counted.
func TestManyKeysAreSummedUp(t *testing.T) {
	t.Parallel()
	keys := map[uint32]int64{}
	for id := range uint32(250) {
		keys[id+1] = 3
	}
	var column verify.ColumnReport
	column.Keys = keys
	var out strings.Builder
	if err := page.Verification(&out, verify.Result{Table: "public.users", Columns: []verify.ColumnReport{column}}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "  key "); n != 10 || !strings.Contains(out.String(), "  240 more keys: 720 cells (") {
		t.Errorf("%d lines of keys in\n%s", n, out.String())
	}
}
