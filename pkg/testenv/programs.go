package testenv

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Programs builds cipherfleet and cipherfleet-worker, as `make build` does, and returns the folder they are in.
func Programs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for program, source := range map[string]string{"cipherfleet": "coordinator", "cipherfleet-worker": "worker"} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(dir, program), "github.com/cipherfleet/cipherfleet/"+source)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	return dir
}
