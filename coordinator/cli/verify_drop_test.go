package cli

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
)

// TestVerifyAfterTheDrop: by the command that drops the plaintext; the digest shows that no value was lost with it.
func TestVerifyAfterTheDrop(t *testing.T) {
	t.Parallel()
	_, s, _ := encryptedUsers(t, 200, "")
	look := func() verify.ColumnReport {
		t.Helper()
		return parsed[verify.Result](t, s.must("verify", "--table", "users", "--column", "email", "--json").out).Columns[0]
	}
	before := look()
	s.must("drop", "users.email", "--apply")
	after := look()
	if after.Source != "" || !after.Proven || after.Covered != 200 || after.Digest != before.Digest {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	h := parsed[status.History](t, s.must("history", "users.email", "--limit", "2", "--json").out)
	if got := kinds(h); len(got) != 2 || got[0] != "dropped" || got[1] != "verified" {
		t.Errorf("the history ends with %v", got)
	}
}
