package kms_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

func TestAFileConforms(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T) subject {
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
		remote := fault{cannot: "a file is read by the operating system, whole or not at all"}
		return subject{
			open:    func() (cell.KEK, error) { return kms.Open(t.Context(), "file:"+path, "") },
			secrets: []string{material(content)[4:20]},
			faults: map[string]fault{
				"unavailable":   {cause: func() { _ = os.Remove(path) }, class: cell.KEKUnavailable, heal: heal},
				"exposed":       {cause: write(content, 0o640), class: cell.KEKExposed, heal: heal},
				"empty answer":  {cause: write(nil, 0o600), class: cell.KEKCorrupt, heal: heal},
				"a cut off key": {cause: write(content[:len(content)-30], 0o600), class: cell.KEKCorrupt, heal: heal},
				"a folder": {cause: func() {
					_ = os.Remove(path)
					_ = os.Mkdir(path, 0o700)
				}, class: cell.KEKCorrupt, heal: func() {
					_ = os.Remove(path)
					heal()
				}},
				"throttled": remote, "slow answer": remote, "truncated answer": remote,
				"denied":                  {cannot: "the tests may run as root, who may read everything"},
				"disabled":                {cannot: "a file has no switch"},
				"destroyed":               {cannot: "a file that is gone may come back from its backup: unavailable"},
				"ignores associated data": {cannot: "the cipher is ours"},
			},
		}
	})
}
