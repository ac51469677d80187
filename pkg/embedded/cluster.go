package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cluster is a home on disk: data/, password, log.
type cluster struct {
	home   string
	bindir string
	major  int
	as     *account
}

func (c *cluster) data() string         { return filepath.Join(c.home, "data") }
func (c *cluster) logFile() string      { return filepath.Join(c.home, "log") }
func (c *cluster) passwordFile() string { return filepath.Join(c.home, "password") }

// openCluster checks the programs and makes sure that home holds a cluster: the one that is there, a copy of
// template, or a fresh one. A folder that holds anything else is refused, because it would change its owner.
func openCluster(ctx context.Context, bindir, home, template string) (*cluster, error) {
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	if bindir, err = FindBinDir(bindir); err != nil {
		return nil, err
	}
	major, err := majorVersion(ctx, bindir, as)
	if err != nil {
		return nil, err
	}
	if major < OldestPostgres {
		return nil, fmt.Errorf("use Postgres %d in %s: version %d or newer is needed", major, bindir, OldestPostgres)
	}
	c := &cluster{home: home, bindir: bindir, major: major, as: as}
	if err := c.prepare(ctx, template); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *cluster) prepare(ctx context.Context, template string) error {
	if err := os.MkdirAll(c.home, 0o700); err != nil {
		return fmt.Errorf("make folder for Postgres: %w", err)
	}
	if _, err := os.Stat(filepath.Join(c.data(), "PG_VERSION")); err == nil {
		return nil
	}
	entries, err := os.ReadDir(c.home)
	if err != nil {
		return fmt.Errorf("read folder for Postgres: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("make cluster in %s: the folder is not empty and holds no cluster of ours", c.home)
	}
	if template != "" {
		return c.copyFrom(ctx, template)
	}
	return c.create(ctx)
}

// handOver gives everything to the account and makes sure that it can get there.
func (c *cluster) handOver(ctx context.Context) error {
	if err := c.as.own(c.home); err != nil {
		return fmt.Errorf("hand %s to %s: %w", c.home, c.as, err)
	}
	return c.as.canEnter(ctx, c.home)
}

func (c *cluster) create(ctx context.Context) error {
	if _, err := keepSecret(c.passwordFile(), ""); err != nil {
		return err
	}
	if err := c.handOver(ctx); err != nil {
		return err
	}
	initdb := c.as.command(ctx, c.home, filepath.Join(c.bindir, "initdb"), "--pgdata="+c.data(), "--username="+superuser,
		"--pwfile="+c.passwordFile(), "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb: %w\n%s", err, tail(string(out)))
	}
	return c.include()
}

// copyFrom copies a stopped cluster, which takes a tenth of the time of initdb.
func (c *cluster) copyFrom(ctx context.Context, template string) error {
	if err := os.CopyFS(c.home, os.DirFS(template)); err != nil {
		return fmt.Errorf("copy cluster: %w", err)
	}
	if err := os.Chmod(c.data(), 0o700); err != nil { // the server insists
		return fmt.Errorf("protect %s: %w", c.data(), err)
	}
	return c.handOver(ctx)
}

const settingsFile = "cipherfleet.conf"

// include makes the server read our settings from a file, so that ALTER SYSTEM still wins over them.
func (c *cluster) include() error {
	file, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open server configuration: %w", err)
	}
	_, err = fmt.Fprintf(file, "\ninclude_if_exists = '%s'\n", settingsFile)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("extend server configuration: %w", err)
	}
	return nil
}

// configure writes the settings of the next start.
func (c *cluster) configure(settings map[string]string) error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	path := filepath.Join(c.data(), settingsFile)
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write server settings: %w", err)
	}
	if err := c.as.own(path); err != nil {
		return fmt.Errorf("hand server settings to %s: %w", c.as, err)
	}
	return nil
}

// tail returns the last lines of a server's output: what a person needs to see why it ended.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

func (c *cluster) logTail() string {
	content, err := os.ReadFile(c.logFile())
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	return tail(string(content))
}
