package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// OldestPostgres is the oldest major version that Cipherfleet works with.
const OldestPostgres = 14

// ErrNoPostgres says that this machine has no Postgres server programs; its text says what to install.
var ErrNoPostgres = errors.New("no Postgres server programs (initdb, postgres) found: install them, for example with" +
	" `apt-get install postgresql`, `dnf install postgresql-server`, `apk add postgresql` or `brew install postgresql`," +
	" or set CIPHERFLEET_PG_BINDIR to the folder that holds them")

// Where distributions put the server programs when they are not on the PATH.
func bindirPatterns() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/usr/libexec/postgresql*",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}
}

// FindBinDir returns the folder that holds initdb and postgres. A given folder is taken or refused, never replaced
// by another; without one it asks pg_config, then the PATH, then looks where distributions install, newest version
// first. ErrNoPostgres when there is none.
func FindBinDir(given string) (string, error) {
	if given != "" {
		if !holdsServer(given) {
			return "", fmt.Errorf("use Postgres programs in %s: %w", given, ErrNoPostgres)
		}
		return filepath.Abs(given)
	}
	candidates := append(fromConfig(), fromPath()...)
	for _, pattern := range bindirPatterns() {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("search %s: %w", pattern, err)
		}
		candidates = append(candidates, newestFirst(found)...)
	}
	if i := slices.IndexFunc(candidates, holdsServer); i >= 0 {
		return candidates[i], nil
	}
	return "", ErrNoPostgres
}

func holdsServer(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// fromConfig asks pg_config, which on some systems belongs to the client library and names a folder without a server.
func fromConfig() []string {
	out, err := exec.Command("pg_config", "--bindir").Output()
	if err != nil {
		return nil
	}
	return []string{strings.TrimSpace(string(out))}
}

func fromPath() []string {
	program, err := exec.LookPath("postgres")
	if err != nil {
		return nil
	}
	if program, err = filepath.EvalSymlinks(program); err != nil {
		return nil
	}
	return []string{filepath.Dir(program)}
}

// newestFirst orders paths by the last number in them: …/9.6/bin, …/15/bin, …/postgresql@17/bin.
func newestFirst(paths []string) []string {
	slices.SortStableFunc(paths, func(a, b string) int { return lastNumber(b) - lastNumber(a) })
	return paths
}

func lastNumber(path string) int {
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	fields := strings.FieldsFunc(path, notDigit)
	for _, field := range slices.Backward(fields) {
		if n, err := strconv.Atoi(field); err == nil {
			return n
		}
	}
	return 0
}

// majorVersion runs `postgres --version`, for example "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func majorVersion(ctx context.Context, bindir string, as *account) (int, error) {
	cmd := as.command(ctx, "/", filepath.Join(bindir, "postgres"), "--version")
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("run %s as %s: %w", cmd.Path, as, err)
	}
	_, version, _ := strings.Cut(string(out), "(PostgreSQL) ")
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if digits <= 0 {
		return 0, fmt.Errorf("read version of %s: %q is none", cmd.Path, strings.TrimSpace(string(out)))
	}
	return strconv.Atoi(version[:digits])
}
