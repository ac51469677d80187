package client_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestWhereOnlyApprovedModesMayRun runs itself again under GODEBUG=fips140=only, against a Postgres that the first run has
// started, and there seals, opens, looks up a new scheme and migrates.
func TestWhereOnlyApprovedModesMayRun(t *testing.T) {
	t.Parallel()
	if !fips140.Enforced() {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "enforced: read and written") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	block, err := aes.NewCipher(make([]byte, 32))
	check(t, err)
	if _, err := cipher.NewGCM(block); err == nil {
		t.Fatal("nothing is enforced here")
	}
	s := sold(t, 3)
	a := s.app(s.client(migrating))
	a.mustWrite(updateSQL, 1, "approved")
	a.wants(1, "approved")
	s.ready(s.nextFor(a.c))
	check(t, a.c.Refresh(context.WithoutCancel(t.Context())))
	a.mustWrite(updateSQL, 1, "again")
	a.wants(1, "again")
	a.wants(2, "user2@example.com")
	t.Log("enforced: read and written")
}
