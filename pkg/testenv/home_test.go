package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAbandonedHomesAreRemoved(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	old := time.Now().Add(-2 * abandonedAfter)
	make := func(name string, locked bool, at time.Time) *home {
		h := &home{dir: filepath.Join(parent, homePattern+name)}
		if err := os.Mkdir(h.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if locked {
			if err := h.takeLock(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.lock.Release() })
		}
		if err := os.Chtimes(h.dir, at, at); err != nil {
			t.Fatal(err)
		}
		return h
	}
	inUse, young, abandoned := make("used", true, old), make("young", false, time.Now()), make("abandoned", false, old)
	removeAbandonedHomes(parent)
	for _, kept := range []*home{inUse, young} {
		if _, err := os.Stat(kept.dir); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(abandoned.dir); !os.IsNotExist(err) {
		t.Errorf("the abandoned folder: %v", err)
	}
}

func TestASuiteWithoutMainIsTold(t *testing.T) {
	t.Parallel()
	var forgotten suite
	if _, err := forgotten.postgres(); err == nil || !strings.Contains(err.Error(), "testenv.Main(m)") {
		t.Errorf("got %v", err)
	}
}

func TestWithDatabase(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"postgres://u:p@h:5/x?sslmode=disable": "postgres://u:p@h:5/new?sslmode=disable",
		"postgres://u@h":                       "postgres://u@h/new",
		"postgres:///x?host=/run&user=u":       "postgres:///new?host=/run&user=u",
		"postgres://h/x":                       "", // the superuser must be named
		"host=h user=u":                        "",
		"secret://%zz":                         "",
	}
	for server, want := range tests {
		got, err := withDatabase(server, "new")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", server, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error quotes the URL: %v", err)
		}
	}
}
