//go:build unix && !linux

package embedded

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// endWithParent does nothing: only Linux ends a child with its parent. Elsewhere a killed program leaves its server
// behind; a program that ends in order stops it.
func endWithParent(*syscall.SysProcAttr) {}

// children lists the processes whose parent is pid.
func children(pid int) ([]int, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, fmt.Errorf("run ps: %w", err)
	}
	var found []int
	for line := range strings.Lines(string(out)) {
		var child, parent int
		if _, err := fmt.Sscan(line, &child, &parent); err == nil && parent == pid {
			found = append(found, child)
		}
	}
	return found, nil
}

// alive reports whether the process still exists.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
