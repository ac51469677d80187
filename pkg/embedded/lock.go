package embedded

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked says that somebody else uses what the lock protects.
var ErrLocked = errors.New("it is in use by another process")

// Lock waits for the exclusive lock on the file at path and takes it. The kernel releases it with the process, and
// closing the file releases it too; the file itself stays.
func Lock(path string) (*os.File, error) { return lock(path, 0) }

// TryLock is Lock without waiting: ErrLocked when another holder has it.
func TryLock(path string) (*os.File, error) { return lock(path, syscall.LOCK_NB) }

func lock(path string, mode int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|mode)
		if !errors.Is(err, syscall.EINTR) { // the Go scheduler interrupts waiting system calls
			break
		}
	}
	if err != nil {
		file.Close() //nolint:errcheck // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, nil
}
