package lifecycle_test

import (
	"crypto/fips140"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// TestAKeyOfAnUnapprovedSuiteFailsWhoUsesItAlone runs itself again under GODEBUG=fips140=only, in front of a registry
// that was made without.
func TestAKeyOfAnUnapprovedSuiteFailsWhoUsesItAlone(t *testing.T) {
	t.Parallel()
	if !fips140.Enforced() {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "enforced: one opens") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	o := newOffice(t)
	want := o.first
	want.Number, want.KeyID, want.Suite, want.RowBound = 0, 0, cell.SuiteAES256SIV, false
	if _, err := o.registrar().NewScheme(t.Context(), lifecycle.Definition{Scheme: want}); !errors.Is(err, cell.ErrUnapproved) {
		t.Errorf("a scheme of an unapproved suite: %v", err)
	}
	var siv cell.Scheme
	fips140.WithoutEnforcement(func() {
		var err error
		if siv, err = o.registrar().NewScheme(t.Context(), lifecycle.Definition{Scheme: want}); err != nil {
			t.Fatal(err)
		}
	})
	k := o.open(lifecycle.KeychainConfig{})
	if err := o.read(k, o.mustSeal(k, o.first)); err != nil {
		t.Errorf("the column's other scheme: %v", err)
	}
	if _, err := o.seal(k, siv); !errors.Is(err, cell.ErrUnapproved) {
		t.Errorf("sealed under the unapproved suite: %v", err)
	}
	t.Log("enforced: one opens")
}
