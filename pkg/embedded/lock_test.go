package embedded

import (
	"errors"
	"path/filepath"
	"testing"
)

func TestALockHasOneHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Fatalf("a second holder: %v", err)
	}
	second := make(chan error)
	go func() {
		file, err := Lock(path)
		if err == nil {
			err = file.Close()
		}
		second <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatalf("the one who waited: %v", err)
	}
}
