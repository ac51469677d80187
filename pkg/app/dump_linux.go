package app

import (
	"errors"
	"fmt"
	"syscall"
)

// prSetDumpable is PR_SET_DUMPABLE of <linux/prctl.h>.
const prSetDumpable = 4

// KeepMemory keeps this process's memory, where keys and values pass, to itself: no core dump, neither to a file nor to
// a program that collects them, and nobody but root may attach a debugger or read /proc/PID/mem. Programs that it starts
// inherit the first, and lose the second with exec.
func KeepMemory() error {
	err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		err = errors.Join(err, errno)
	}
	if err != nil {
		return fmt.Errorf("keep memory out of core dumps: %w", err)
	}
	return nil
}
