package demo_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestMain(m *testing.M) { os.Exit(main(m)) }

func main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cipherfleet-demo-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = sync.OnceValues(func() (string, error) { return dir, build(dir) })
	return testenv.Main(m)
}

// built is the folder that holds both programs, built from the source as it is.
var built func() (string, error)

func build(dir string) error {
	for name, source := range map[string]string{"cipherfleet": "coordinator", "cipherfleet-worker": "worker"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "github.com/cipherfleet/cipherfleet/"+source)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

func programs(t *testing.T) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
