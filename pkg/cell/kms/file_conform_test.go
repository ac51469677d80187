package kms_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/kmstest"
)

func TestAFileConforms(t *testing.T) {
	t.Parallel()
	kmstest.Conform(t, func(t *testing.T) kmstest.Subject {
		t.Helper()
		path, _ := newFile(t)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write := func(b []byte, mode os.FileMode) func() {
			return func() {
				if err := os.WriteFile(path, b, mode); err != nil {
					t.Error(err)
				}
				if err := os.Chmod(path, mode); err != nil {
					t.Error(err)
				}
			}
		}
		heal := write(content, 0o600)
		other := filepath.Join(t.TempDir(), "kek.json")
		if err := kms.CreateFile(other); err != nil {
			t.Fatal(err)
		}
		remote := kmstest.Fault{Cannot: "a file is read by the operating system, whole or not at all"}
		return kmstest.Subject{
			Open:    func() (cell.KEK, error) { return kms.Open(t.Context(), "file:"+path, "") },
			Secrets: []string{material(content)[4:20]},
			Faults: map[string]kmstest.Fault{
				"unavailable":   {Cause: func() { _ = os.Remove(path) }, Class: cell.KEKUnavailable, Heal: heal},
				"exposed":       {Cause: write(content, 0o640), Class: cell.KEKExposed, Heal: heal},
				"empty answer":  {Cause: write(nil, 0o600), Class: cell.KEKCorrupt, Heal: heal},
				"a cut off key": {Cause: write(content[:len(content)-30], 0o600), Class: cell.KEKCorrupt, Heal: heal},
				"a folder": {Cause: func() {
					_ = os.Remove(path)
					_ = os.Mkdir(path, 0o700)
				}, Class: cell.KEKCorrupt, Heal: func() {
					_ = os.Remove(path)
					heal()
				}},
				"throttled": remote, "slow answer": remote, "truncated answer": remote,
				"denied":                  {Cannot: "the tests may run as root, who may read everything"},
				"disabled":                {Cannot: "a keyset without a key that is switched on is none; of one key among several: TestARotatedFile…"},
				"destroyed":               {Cannot: "a file that is gone may come back from its backup: unavailable"},
				"ignores associated data": {Cannot: "the cipher is ours"},
			},
		}
	})
}
