package cli

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

func compareGolden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s differs; go test -update writes it anew:\n%s", path, text)
	}
}

func small() migration {
	return migration{name: "small", about: []string{"Makes a table of \"two\nlines\"; DROP TABLE x."},
		up:   []string{"DO $a$\nBEGIN\n  CREATE TABLE t (\"a;--\" int);\nEND\n$a$", "COMMENT ON TABLE t IS 'it''s; --small'"},
		down: []string{"DROP TABLE t"}}
}

func TestStylesGolden(t *testing.T) {
	t.Parallel()
	for _, style := range styles() {
		var text strings.Builder
		for _, s := range must(small().scripts(style)) {
			text.WriteString(s.Text + "=====\n")
		}
		compareGolden(t, "style_"+style+".sql", text.String())
	}
}

// tool runs the files as its migration tool would; up says which way. What it does itself in the transaction, it does
// without a schema's name.
type tool func(t *testing.T, db *testenv.DB, scripts []script, up bool) error

func tools() map[string]tool {
	return map[string]tool{styleSQL: runWhole, styleMigrate: runWhole, styleGoose: runGoose, styleDrizzle: runDrizzle}
}

func side(scripts []script, up bool) string {
	for _, s := range scripts {
		if s.down != up {
			return s.Text
		}
	}
	return ""
}

// runWhole is golang-migrate, and psql -f of a script without meta-commands: one string of statements.
func runWhole(t *testing.T, db *testenv.DB, scripts []script, up bool) error {
	conn, err := db.Acquire(t.Context())
	if err != nil {
		return err
	}
	defer conn.Discard(t.Context()) // a script that failed leaves its transaction open
	_, err = conn.Exec(t.Context(), side(scripts, up))
	return err
}

// runGoose follows goose's rules for what stands between its marks, and notes the version in the same transaction.
func runGoose(t *testing.T, db *testenv.DB, scripts []script, up bool) error {
	ups, downs, found := strings.Cut(scripts[0].Text, "\n-- +goose Down\n")
	if !found || !strings.HasPrefix(ups, "-- +goose Up\n") {
		t.Fatal("the file has no two sides")
	}
	text := downs
	if up {
		text = ups
	}
	var list []string
	for _, part := range strings.Split(text, "-- +goose StatementBegin\n")[1:] {
		statement, rest, ended := strings.Cut(part, "\n-- +goose StatementEnd\n")
		if !ended || strings.TrimSpace(rest) != "" {
			t.Fatalf("what is outside of marks: %q", rest)
		}
		list = append(list, statement)
	}
	return runTogether(t, db, list)
}

// runDrizzle cuts at the breakpoints; the way back is not drizzle's.
func runDrizzle(t *testing.T, db *testenv.DB, scripts []script, up bool) error {
	if !up {
		return runWhole(t, db, scripts, up)
	}
	return runTogether(t, db, strings.Split(side(scripts, true), "--> statement-breakpoint"))
}

func runTogether(t *testing.T, db *testenv.DB, list []string) error {
	db.Run(t, `CREATE TABLE IF NOT EXISTS tool_versions (n int)`)
	return db.InTx(t.Context(), func(tx pg.Tx) error {
		for _, statement := range append(list, `INSERT INTO tool_versions VALUES (1)`) {
			if _, err := tx.Exec(t.Context(), statement); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestStylesRunAsTheirToolsRunThem(t *testing.T) {
	t.Parallel()
	for style, run := range tools() {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			db := testenv.EmptyDatabase(t)
			scripts := must(small().scripts(style))
			if err := run(t, db, scripts, true); err != nil {
				t.Fatal(err)
			}
			if got := columnsOf(t, db, "t"); got != "a;--" {
				t.Errorf("the table has %s", got)
			}
			if err := run(t, db, scripts, false); err != nil {
				t.Fatal(err)
			}
			if testenv.One[bool](t, db, `SELECT to_regclass('t') IS NOT NULL`) {
				t.Error("the way back left the table")
			}
		})
	}
}

// A tool that finds its mark inside a name would cut the statement there.
func TestNamesThatAToolTakesForItsMarkAreRefused(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string][]string{
		"a\n-- +goose StatementEnd\nb": {styleGoose}, "a\n  --+GOOSE Down": {styleGoose}, "a--> statement-breakpoint": {styleDrizzle}, "a -- +goose": nil,
	} {
		m := migration{name: "x", up: []string{"CREATE TABLE " + pg.Ident(name) + " ()"}, down: []string{"SELECT"}}
		for _, style := range styles() {
			_, err := m.scripts(style)
			if code, hint := app.Explain(err); (code == app.CodeRefused && hint != "") != slices.Contains(refused, style) {
				t.Errorf("%q as %s: %v", name, style, err)
			}
		}
	}
}

func TestFilesGetTheNextNumber(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for name, tc := range map[string]struct{ there, style, want string }{
		"an empty folder":  {"", styleGoose, "20260304050607_small.sql"},
		"counted":          {"000009_a.up.sql 000009_a.down.sql 7_x notes.md", styleMigrate, "000010_small.down.sql 000010_small.up.sql"},
		"counted, full":    {"99_a.sql", styleGoose, "100_small.sql"},
		"by time":          {"20250101000000_a.sql", styleGoose, "20260304050607_small.sql"},
		"by a later time":  {"20270101000000_a.sql", styleSQL, "20270101000001_small.down.sql 20270101000001_small.sql"},
		"by seconds":       {"1500000000_a.up.sql", styleMigrate, "1772600767_small.down.sql 1772600767_small.up.sql"},
		"others' counters": {"0001_a.sql 0002_b", styleSQL, "0003_small.down.sql 0003_small.sql"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, file := range strings.Fields(tc.there) {
				if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o := migrationOut{style: tc.style, out: dir}
			scripts := must(o.render(small(), now))
			if err := o.save(scripts); err != nil {
				t.Fatal(err)
			}
			var made []string
			for _, entry := range must(os.ReadDir(dir)) {
				if !slices.Contains(strings.Fields(tc.there), entry.Name()) {
					made = append(made, entry.Name())
				}
			}
			if got := strings.Join(made, " "); got != tc.want {
				t.Errorf("it made %s, want %s", got, tc.want)
			}
		})
	}
}

func TestFilesAreNamedAsTheirToolFindsThem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tc := range []struct{ style, out, want string }{
		{styleSQL, "x.sql", "x.sql x.down.sql"}, {styleSQL, "x", "x.sql x.down.sql"},
		{styleMigrate, "7_x.up.sql", "7_x.up.sql 7_x.down.sql"}, {styleMigrate, "7_x.sql", "7_x.up.sql 7_x.down.sql"}, {styleMigrate, "7_x", "7_x.up.sql 7_x.down.sql"},
		{styleGoose, "7_x.sql", "7_x.sql"}, {styleGoose, "7_x", "7_x.sql"},
		{styleDrizzle, "0001_x.sql", "0001_x.sql 0001_x.down.sql"},
		{styleMigrate, "x.sql", ""}, {styleGoose, "x.sql", ""}, {styleDrizzle, ".", ""}, {styleSQL, "no/x.sql", ""},
	} {
		o := migrationOut{style: tc.style, out: filepath.Join(dir, tc.out)}
		scripts, err := o.render(small(), time.Now())
		var names []string
		for _, path := range paths(scripts) {
			names = append(names, filepath.Base(path))
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("%s as %s makes %q, want %q", tc.out, tc.style, got, tc.want)
		}
		if code, hint := app.Explain(err); tc.want == "" && (code != app.CodeUsage || hint == "") {
			t.Errorf("%s as %s: %v", tc.out, tc.style, err)
		}
	}
}

func TestAFileIsNeverOverwrittenUnasked(t *testing.T) {
	t.Parallel()
	at := filepath.Join(t.TempDir(), "7_x.sql")
	down := strings.TrimSuffix(at, ".sql") + ".down.sql"
	if err := os.WriteFile(down, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := migrationOut{style: styleMigrate, out: at}
	if _, err := o.render(small(), time.Now()); err == nil || !strings.Contains(err.Error(), "7_x.down.sql is there already") {
		t.Errorf("the second of two files is there: %v", err)
	}
	if err := o.save([]script{{Path: at, Text: "x"}, {Path: down, Text: "y"}}); err == nil {
		t.Error("a file that came meanwhile was replaced")
	}
	if _, err := os.Lstat(at); err == nil {
		t.Error("half of the migration stayed")
	}
	if text := must(os.ReadFile(down)); string(text) != "mine" {
		t.Errorf("the file is now %q", text)
	}
	o.force = true
	if err := o.save(must(o.render(small(), time.Now()))); err != nil {
		t.Fatal(err)
	}
	if text := must(os.ReadFile(down)); !strings.Contains(string(text), "DROP TABLE t") {
		t.Errorf("with --force the file is %q", text)
	}
}

func TestStatementsAreCutWhereTheyEnd(t *testing.T) {
	t.Parallel()
	for script, want := range map[string][]string{
		"": nil, " ;; ": nil, "a; b": {"a", "b"}, "'a;''b';c": {"'a;''b'", "c"}, `E'a\';b';c`: {`E'a\';b'`, "c"}, `"a;""b";c`: {`"a;""b"`, "c"},
		"-- a;b\nc;d": {"-- a;b\nc", "d"}, "/* a; /* b; */ c; */ d;e": {"/* a; /* b; */ c; */ d", "e"},
		"$$ a; $$; $x$ b; $$ c; $x$": {"$$ a; $$", "$x$ b; $$ c; $x$"}, "'open;": {"'open;"}, "/* open;": {"/* open;"}, "E'open\\": {"E'open\\"},
	} {
		if got := statements(script); !slices.Equal(got, want) {
			t.Errorf("%q is cut into %q, want %q", script, got, want)
		}
	}
}
