package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program writes a shell script that stands for a program.
func program(t *testing.T, dir, name, body string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestFindBinDirFindsAServer(t *testing.T) {
	t.Parallel()
	dir, err := FindBinDir("")
	if err != nil {
		t.Fatal(err)
	}
	if !holdsServer(dir) {
		t.Errorf("%s holds no server", dir)
	}
}

func TestFindBinDirTakesOrRefusesAGivenFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := FindBinDir(dir); !errors.Is(err, ErrNoPostgres) || !strings.Contains(err.Error(), dir) {
		t.Errorf("an empty folder: %v", err)
	}
	program(t, dir, "initdb", ":")
	if _, err := FindBinDir(dir); !errors.Is(err, ErrNoPostgres) {
		t.Errorf("a folder without postgres: %v", err)
	}
	program(t, dir, "postgres", ":")
	if got, err := FindBinDir(dir); err != nil || got != dir {
		t.Errorf("a complete folder: %q, %v", got, err)
	}
	if err := os.Chmod(filepath.Join(dir, "postgres"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := FindBinDir(dir); !errors.Is(err, ErrNoPostgres) {
		t.Errorf("a program that cannot be run: %v", err)
	}
}

func TestNewestFirst(t *testing.T) {
	t.Parallel()
	got := newestFirst([]string{"/a/9/bin", "/a/15/bin", "/a/postgresql@17/bin", "/a/none/bin"})
	want := []string{"/a/postgresql@17/bin", "/a/15/bin", "/a/9/bin", "/a/none/bin"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestMajorVersion(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		says  string
		major int
	}{
		"debian": {"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15},
		"beta":   {"postgres (PostgreSQL) 19beta2", 19},
		"devel":  {"postgres (PostgreSQL) 20devel", 20},
		"other":  {"something else", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program(t, dir, "postgres", "echo '"+test.says+"'")
			got, err := majorVersion(t.Context(), dir, nil)
			if got != test.major || (err == nil) != (test.major > 0) {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
}

func TestAnOldPostgresIsRefused(t *testing.T) {
	t.Parallel()
	dir := sharedFolder(t)
	program(t, dir, "initdb", "exit 1")
	program(t, dir, "postgres", "echo 'postgres (PostgreSQL) 13.2'")
	_, err := StartPostgres(context.Background(), PostgresOptions{BinDir: dir})
	if err == nil || !strings.Contains(err.Error(), "version 14 or newer") {
		t.Fatalf("got %v", err)
	}
}
