package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// migrationOut is where a migration is written, and how.
type migrationOut struct {
	style, out string
	force      bool
}

func (o *migrationOut) flags(f *pflag.FlagSet) {
	f.StringVar(&o.style, "format", styleSQL, "how your migration tool wants its files: "+strings.Join(styles(), ", "))
	f.StringVar(&o.out, "out", "", "the file to write, or a folder of migrations: then it gets the next number there")
	f.BoolVar(&o.force, "force", false, "replace a file that is there already")
}

func (o *migrationOut) check(c *cobra.Command) error {
	switch {
	case !slices.Contains(styles(), o.style):
		return usage(fmt.Errorf("--format was %q; accepted is %s", o.style, strings.Join(styles(), ", ")), c)
	case o.force && o.out == "":
		return usage(errors.New("--force replaces the file that --out names, and --out is missing"), c)
	}
	return nil
}

// render makes the files of a migration and their paths; what is there already is a refusal, unless --force. Without
// --out they have no paths. Nothing is written.
func (o *migrationOut) render(m migration, now time.Time) ([]script, error) {
	scripts, err := m.scripts(o.style)
	if err != nil || o.out == "" {
		return scripts, err
	}
	if err := o.place(scripts, m.name, now); err != nil {
		return nil, err
	}
	for _, s := range scripts {
		folder := filepath.Dir(s.Path)
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			return nil, &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("there is no folder %s for the migration", folder), Hint: "create it, or name another file with --out"}
		}
		if _, err := os.Lstat(s.Path); err == nil && !o.force {
			return nil, &app.Fail{Code: app.CodeRefused, Err: fmt.Errorf("%s is there already", s.Path), Hint: "name another file with --out, or replace it with --force"}
		}
	}
	return scripts, nil
}

// save writes the files: all of them, or none.
func (o *migrationOut) save(scripts []script) error {
	for i, s := range scripts {
		if s.Path == "" {
			continue
		}
		if err := writeText(s.Path, s.Text, o.force); err != nil {
			return errors.Join(err, remove(scripts[:i]))
		}
	}
	return nil
}

func remove(scripts []script) (err error) {
	for _, path := range paths(scripts) {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func writeText(path, text string, replace bool) error {
	how := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if replace {
		how = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	file, err := os.OpenFile(path, how, 0o644)
	if err != nil {
		return fmt.Errorf("write the migration: %w", err)
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the migration: %w", err), os.Remove(path))
	}
	return nil
}

// numbered is how golang-migrate and goose tell a migration from any other file.
var numbered = regexp.MustCompile(`^([0-9]+)_.+`)

// place gives each script its path.
func (o *migrationOut) place(scripts []script, name string, now time.Time) error {
	at := o.out
	if info, err := os.Stat(at); err == nil && info.IsDir() {
		if o.style == styleDrizzle {
			return &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("%s is a folder, and drizzle runs only what stands in its journal", at),
				Hint: "let `drizzle-kit generate --custom --name=" + name + "` make an empty file, and name that with --out and --force"}
		}
		number, err := nextNumber(at, now)
		if err != nil {
			return err
		}
		at = filepath.Join(at, number+"_"+name)
	} else if (o.style == styleMigrate || o.style == styleGoose) && !os.IsPathSeparator(at[len(at)-1]) && !numbered.MatchString(filepath.Base(at)) {
		return &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("%s would not find a file of that name: a migration's begins with a number and _", o.style),
			Hint: "name a file like 0042_" + name + ".sql, or a folder that is there: then it gets the next number in it"}
	}
	base := strings.TrimSuffix(strings.TrimSuffix(at, ".sql"), ".up")
	for i := range scripts {
		switch {
		case scripts[i].down:
			scripts[i].Path = base + ".down.sql"
		case o.style == styleMigrate:
			scripts[i].Path = base + ".up.sql"
		case filepath.Ext(at) != ".sql":
			scripts[i].Path = at + ".sql"
		default:
			scripts[i].Path = at
		}
	}
	return nil
}

const stamp = "20060102150405"

// nextNumber continues what is in the folder: numbers of the same width, or times. An empty folder begins with the time.
func nextNumber(folder string, now time.Time) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", fmt.Errorf("look for migrations: %w", err)
	}
	last, width := uint64(0), 0
	for _, entry := range entries {
		if found := numbered.FindStringSubmatch(entry.Name()); found != nil {
			if n, err := strconv.ParseUint(found[1], 10, 64); err == nil && n >= last {
				last, width = n, len(found[1])
			}
		}
	}
	next := last + 1
	switch {
	case width == 0 || width == len(stamp):
		at, err := strconv.ParseUint(now.UTC().Format(stamp), 10, 64)
		if err != nil {
			return "", err
		}
		next = max(next, at)
	case width == 10: // seconds since 1970
		next = max(next, uint64(now.Unix()))
	}
	return fmt.Sprintf("%0*d", width, next), nil
}

// fileName makes words that every file system and tool takes.
func fileName(words ...string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, strings.Join(words, "_"))
	return name[:min(len(name), 100)]
}

// paths are the names of those that have one.
func paths(scripts []script) (all []string) {
	for _, s := range scripts {
		if s.Path != "" {
			all = append(all, s.Path)
		}
	}
	return all
}

func checksum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
