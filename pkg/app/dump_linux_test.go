package app_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const (
	keepsMemory   = "-test.run=^TestMemoryIsKept$"
	prGetDumpable = 3
)

// TestMemoryIsKept runs itself again, because a process cannot take it back.
func TestMemoryIsKept(t *testing.T) {
	t.Parallel()
	if len(os.Args) < 2 || os.Args[1] != keepsMemory {
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", `ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@"`, os.Args[0], keepsMemory, "-test.v").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "kept") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if dumpable(t) != 1 {
		t.Fatal("this process could not be dumped before")
	}
	if err := app.KeepMemory(); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit != (syscall.Rlimit{}) {
		t.Errorf("core dumps of %+v bytes, %v", limit, err)
	}
	if dumpable(t) != 0 {
		t.Error("the process can be dumped")
	}
	t.Log("kept")
}

func dumpable(t *testing.T) int {
	t.Helper()
	is, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetDumpable, 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(is)
}
