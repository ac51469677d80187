package testenv

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/embedded"
)

// home is the temporary folder of a private server, with a lock that tells other suites that it is in use.
type home struct {
	dir  string
	lock *embedded.FileLock
}

const homePattern = "cipherfleet-testenv-"

func newHome() (*home, error) {
	dir, err := os.MkdirTemp("", homePattern)
	if err != nil {
		return nil, fmt.Errorf("make folder for the test server: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // the server may run as another user; what is inside is closed
		return nil, errors.Join(fmt.Errorf("open folder for the test server: %w", err), os.RemoveAll(dir))
	}
	h := &home{dir: dir}
	if err := h.takeLock(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return h, nil
}

func (h *home) takeLock() (err error) {
	h.lock, err = embedded.TryLock(filepath.Join(h.dir, "lock"))
	return err
}

func (h *home) cluster() string { return filepath.Join(h.dir, "cluster") }

func (h *home) remove() error { return errors.Join(os.RemoveAll(h.dir), h.lock.Release()) }

// A younger folder may belong to a suite that has not locked it yet, or to a server that is still ending.
const abandonedAfter = time.Minute

// removeAbandonedHomes deletes the folders of suites that were killed. It is housekeeping: what it may not delete,
// another user's, stays.
func removeAbandonedHomes(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, homePattern+"*")) // the pattern is well-formed
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < abandonedAfter {
			continue
		}
		h := &home{dir: dir}
		if h.takeLock() == nil {
			h.remove() //nolint:errcheck // housekeeping
		}
	}
}

// cachedCluster returns a stopped cluster to copy, made once per machine, user and Postgres build: initdb takes ten
// times as long as the copy. Empty where the user has no folder for caches.
func cachedCluster(ctx context.Context, bindir string) (string, error) {
	bindir, err := embedded.FindBinDir(bindir)
	if err != nil {
		return "", err
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", nil
	}
	folder := filepath.Join(caches, "cipherfleet", "testenv")
	if os.MkdirAll(folder, 0o700) != nil {
		return "", nil
	}
	name, err := buildID(bindir)
	if err != nil {
		return "", err
	}
	lock, err := embedded.Lock(filepath.Join(folder, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Release() //nolint:errcheck // the process ends soon
	cached := filepath.Join(folder, name)
	if _, err := os.Stat(cached); !errors.Is(err, fs.ErrNotExist) {
		return cached, err
	}
	return cached, fillCache(ctx, bindir, cached)
}

// buildID changes when Postgres is upgraded or another one is used.
func buildID(bindir string) (string, error) {
	info, err := os.Stat(filepath.Join(bindir, "postgres"))
	if err != nil {
		return "", fmt.Errorf("identify Postgres: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "1 %s %d %d", bindir, info.Size(), info.ModTime().UnixNano()))
	return fmt.Sprintf("postgres-%x", sum[:8]), nil
}

// fillCache makes the cluster where the server's user may enter, copies it beside its place and moves it there: what
// stands in its place is always complete.
func fillCache(ctx context.Context, bindir, cached string) error {
	made, err := newHome()
	if err != nil {
		return err
	}
	defer made.remove()
	if err := embedded.CreateCluster(ctx, bindir, made.cluster()); err != nil {
		return fmt.Errorf("make a cluster to copy: %w", err)
	}
	beside := cached + ".new"
	if err := os.RemoveAll(beside); err != nil {
		return fmt.Errorf("clear the cluster cache: %w", err)
	}
	if err := os.CopyFS(beside, os.DirFS(made.cluster())); err != nil {
		return fmt.Errorf("fill the cluster cache: %w", err)
	}
	return os.Rename(beside, cached)
}
