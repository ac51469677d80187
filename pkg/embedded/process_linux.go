package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// endWithParent asks the kernel to end the server when this program ends, however it ends. SIGQUIT is Postgres's
// immediate shutdown, which takes its own children along.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

// children lists the processes whose parent is pid.
func children(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, path := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		_, parent, err := processState(child)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) { // ended meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		if parent == pid {
			found = append(found, child)
		}
	}
	return found, nil
}

// alive reports whether the process still runs; one that only waits for its parent to notice its end does not.
func alive(pid int) bool {
	state, _, err := processState(pid)
	return err == nil && state != "Z" && state != "X"
}

// processState reads /proc/<pid>/stat, "pid (name) state parent …", where the name may hold anything.
func processState(pid int) (state string, parent int, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return "", 0, fmt.Errorf("read state of process %d: %d fields", pid, len(fields))
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return string(fields[0]), parent, err
}
