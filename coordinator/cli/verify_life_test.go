package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// TestVerifyThroughAColumnsLife: by the commands that swap the names; what is written since is not called uncovered,
// and the digest tells whether the values are the same.
func TestVerifyThroughAColumnsLife(t *testing.T) {
	t.Parallel()
	db, s, r := encryptedUsers(t, 300, "")
	look := func() verify.ColumnReport {
		t.Helper()
		v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--column", "email", "--json").out)
		return v.Columns[0]
	}
	before := look()
	if before.Source != "email_plaintext" || before.Target != "email" || before.Column != "email" || before.Ahead != 0 || before.Covered != 300 {
		t.Fatalf("after the cutover: %+v", before)
	}
	r.writeEverywhere(11)
	after := look()
	if after.Ahead == 0 || after.Covered != after.Rows || after.Digest == before.Digest {
		t.Errorf("after writes to it: %+v", after)
	}
	if text := s.must("verify", "--table", "users").out; !strings.Contains(text, " of the covered were written since the cutover, and their plaintext is not there yet\n") {
		t.Errorf("a person reads %s", text)
	}
	s.must("rollback", "users.email", "--reason", "a test wants it")
	if back := look(); back.Source != "email" || back.Target != "email_encrypted" || back.Ahead != 0 || back.Digest != after.Digest {
		t.Errorf("after the rollback: %+v", back)
	}
	db.Run(t, `ALTER TABLE users DISABLE TRIGGER USER; UPDATE users SET email = NULL WHERE id = 1`)
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven || !strings.Contains(o.out, "1 uncovered") {
		t.Errorf("a cell that is left over: exit code %d, %s", o.code, o.out)
	}
	h := parsed[status.History](t, s.must("history", "users.email", "--json").out)
	var words []string
	for _, kind := range kinds(h) {
		words = append(words, string(kind))
	}
	if story := strings.Join(words, " "); !strings.Contains(story, "backfilled verified cut_over ") || !strings.Contains(story, "rolled_back") {
		t.Errorf("the history is %s", story)
	}
	if text := s.must("history", "users.email").out; !strings.Contains(text, "a test wants it") {
		t.Errorf("a person reads\n%s", text)
	}
}
