package embedded

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked says that another process uses the folder.
var ErrLocked = errors.New("another process uses this folder")

// lockFile takes an exclusive lock that the kernel releases with the process; closing the file releases it too.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, nil
}
