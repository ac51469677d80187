package app_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

func TestInheritTakesWhatBeginsLikeThatAndNothingElse(t *testing.T) {
	t.Parallel()
	if got := app.Inherit("PATH="); len(got) != 1 || !strings.HasPrefix(got[0], "PATH=") {
		t.Errorf("PATH is %d variables", len(got))
	}
	if got := app.Inherit("CIPHERFLEET_NO_SUCH_"); len(got) != 0 {
		t.Errorf("got %d variables that nobody has set", len(got))
	}
	if got := app.Inherit(); len(got) != 0 {
		t.Errorf("no prefix is %d variables", len(got))
	}
}
