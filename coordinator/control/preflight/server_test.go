package preflight

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// No server of those versions is at hand; the rest of the checks meet real ones.
func TestOldServersAreRefused(t *testing.T) {
	t.Parallel()
	for version, want := range map[int]string{
		90624: "this is Postgres 9, the oldest that works is 14", 130021: "this is Postgres 13, the oldest that works is 14",
		140000: "", 150018: "", 180001: "", 190000: "",
	} {
		err := CheckServer(pg.Server{Version: version, Database: "d"})
		var have *standing.Refusal
		if want == "" && err != nil || want != "" && (!errors.As(err, &have) || have.Message != want || have.Hint == "") {
			t.Errorf("%d: have %v, want %q", version, err, want)
		}
	}
}
