package cell_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// TestWhereOnlyApprovedModesMayRun runs itself again under GODEBUG=fips140=only and there wraps,
// seals, checks and opens.
func TestWhereOnlyApprovedModesMayRun(t *testing.T) {
	t.Parallel()
	if !fips140.Enforced() {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "enforced: sealed and opened") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cipher.NewGCM(block); err == nil {
		t.Fatal("nothing is enforced here")
	}
	kek, s := newKEK(t), scheme()
	fresh, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := cell.WrapDEK(t.Context(), kek, identity(), fresh)
	if err != nil {
		t.Fatal(err)
	}
	d, err := cell.UnwrapDEK(t.Context(), kek, identity(), wrapped)
	if err != nil {
		t.Fatal(err)
	}
	canary, err := cell.Canary(registry, s, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := cell.CheckCanary(registry, s, fresh, canary); err != nil {
		t.Fatal(err)
	}
	k := cell.NewKeyring(registry)
	if err := k.Add(s, d); err != nil {
		t.Fatal(err)
	}
	w, err := k.Sealer(s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.Seal(nil, row(1), []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.OpenAndCompare(row(1), c, []byte("value")); err != nil {
		t.Fatal(err)
	}
	if got, _, err := k.Open(nil, row(1), c); err != nil || string(got) != "value" {
		t.Fatalf("%q, %v", got, err)
	}
	det := deterministic()
	if err := k.Add(det, dekOf(t, det.Suite, 1)); !errors.Is(err, cell.ErrUnapproved) || !strings.Contains(err.Error(), "AES-256-SIV") {
		t.Fatalf("deterministic: %v", err)
	}
	if _, err := cell.Canary(registry, det, dekOf(t, det.Suite, 1)); !errors.Is(err, cell.ErrUnapproved) {
		t.Fatalf("deterministic canary: %v", err)
	}
	if got := token(t, blinder(t, index(cell.NormaliseExact)), "value"); len(got) != 2*cell.BlindSize {
		t.Fatalf("token %s", got)
	}
	t.Log("enforced: sealed and opened")
}
