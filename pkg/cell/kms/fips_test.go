package kms_test

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/kmstest"
)

// TestTheFileWorksWhereOnlyApprovedModesMayRun runs itself again under GODEBUG=fips140=only.
func TestTheFileWorksWhereOnlyApprovedModesMayRun(t *testing.T) {
	t.Parallel()
	if !fips140.Enforced() {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "enforced: wrapped and unwrapped") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	path, kek := newFile(t)
	dek, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := cell.WrapDEK(t.Context(), kek, kmstest.Identity(), dek)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cell.UnwrapDEK(t.Context(), open(t, path), kmstest.Identity(), wrapped)
	if err != nil {
		t.Fatal(err)
	}
	if !kmstest.SameKey(t, dek, got) {
		t.Fatal("another key came back")
	}
	t.Log("enforced: wrapped and unwrapped")
}
