package embedded

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked says that somebody else uses what the lock protects.
var ErrLocked = errors.New("it is in use by another process")

// FileLock is an exclusive lock between processes. The kernel releases it with the process that holds it.
type FileLock struct{ file *os.File }

// Lock waits for the lock on the file at path, makes the file where there is none, and takes it.
func Lock(path string) (*FileLock, error) { return lock(path, 0) }

// TryLock is Lock without waiting: ErrLocked when another holder has it.
func TryLock(path string) (*FileLock, error) { return lock(path, syscall.LOCK_NB) }

func lock(path string, mode int) (*FileLock, error) {
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
	return &FileLock{file: file}, nil
}

// Release lets others have the lock; the file stays. Closing alone would not do: a child process that this program
// is starting holds a copy of the file, and with it the lock, until it has become the other program.
func (l *FileLock) Release() error {
	if err := errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close()); err != nil {
		return fmt.Errorf("release lock: %w", err)
	}
	return nil
}
