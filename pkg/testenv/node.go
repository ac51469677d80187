package testenv

import (
	"cmp"
	"os/exec"
	"testing"
)

// Node is the program of Node.js: that of CIPHERFLEET_NODE, which deploy/node/ensure.sh finds or downloads, or of PATH.
func Node(t testing.TB) string {
	t.Helper()
	config, err := readEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath(cmp.Or(config.Node, "node"))
	if err != nil {
		t.Fatalf("find Node.js: %v; CIPHERFLEET_NODE=$(deploy/node/ensure.sh) names one", err)
	}
	return path
}
