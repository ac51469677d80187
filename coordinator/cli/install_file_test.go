package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// schemaSQL is what the catalog knows of schema cipherfleet, without oids.
const schemaSQL = `SELECT coalesce(string_agg(x, E'\n' ORDER BY x), 'none') FROM (
 SELECT concat_ws(' ', nspname, nspacl) x FROM pg_namespace WHERE nspname = 'cipherfleet'
 UNION ALL SELECT concat_ws(' ', relname, relkind, relacl, obj_description(oid)) FROM pg_class WHERE relnamespace = to_regnamespace('cipherfleet')
 UNION ALL SELECT concat_ws(' ', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = to_regnamespace('cipherfleet')
 UNION ALL SELECT concat_ws(' ', pg_get_triggerdef(t.oid), tgenabled) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal AND relnamespace = to_regnamespace('cipherfleet')
 UNION ALL SELECT concat_ws(' ', proname, prosrc, proacl) FROM pg_proc WHERE pronamespace = to_regnamespace('cipherfleet')) x`

// written is what install writes to a file, read back.
func written(t *testing.T, style string, args ...string) []script {
	t.Helper()
	s := newShell(t, "")
	folder := s.path("migrations")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	o := s.must(append([]string{"install", "--format", style, "--json", "--out", filepath.Join(folder, "0042_cipherfleet.sql")}, args...)...)
	var scripts []script
	for _, path := range parsed[installWritten](t, o.out).Files {
		scripts = append(scripts, script{Path: path, Text: string(must(os.ReadFile(path))), down: strings.HasSuffix(path, ".down.sql")})
	}
	return scripts
}

// TestInstallAsAMigrationIsInstall: every tool makes of the file exactly the schema that install makes, and takes it
// away again.
func TestInstallAsAMigrationIsInstall(t *testing.T) {
	t.Parallel()
	want := testenv.One[string](t, testenv.Database(t), schemaSQL)
	for style, run := range tools() {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			db := testenv.EmptyDatabase(t)
			scripts := written(t, style)
			if err := run(t, db, scripts, true); err != nil {
				t.Fatal(err)
			}
			if got := testenv.One[string](t, db, schemaSQL); got != want {
				t.Errorf("the schema is\n%s\nwant\n%s", got, want)
			}
			if err := lifecycle.Install(t.Context(), db.DB); err != nil {
				t.Errorf("install after it: %v", err)
			}
			before := fingerprint(t, db)
			if err := run(t, db, scripts, true); pg.Code(err) != "55000" || fingerprint(t, db) != before {
				t.Errorf("a second time: %v", err)
			}
			if err := run(t, db, scripts, false); err != nil {
				t.Fatal(err)
			}
			if got := testenv.One[string](t, db, schemaSQL); got != "none" {
				t.Errorf("the way back left %s", got)
			}
			if err := run(t, db, scripts, false); err != nil {
				t.Errorf("the way back, twice: %v", err)
			}
		})
	}
}

// TestInstallAsAMigrationGoesOnFromAVersion that an earlier migration installed.
func TestInstallAsAMigrationGoesOnFromAVersion(t *testing.T) {
	t.Parallel()
	want := testenv.One[string](t, testenv.Database(t), schemaSQL)
	versions := must(schemaVersions())
	for style, run := range tools() {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			db := testenv.EmptyDatabase(t)
			scripts := written(t, style, "--from", "1")
			if err := run(t, db, scripts, true); err == nil {
				t.Error("it went on from nothing")
			}
			err := db.InTx(t.Context(), func(tx pg.Tx) error {
				for _, statement := range versions[0] {
					if _, err := tx.Exec(t.Context(), statement); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := run(t, db, scripts, true); err != nil {
				t.Fatal(err)
			}
			if got := testenv.One[string](t, db, schemaSQL); got != want {
				t.Errorf("the schema is\n%s\nwant\n%s", got, want)
			}
			before := fingerprint(t, db)
			if err := run(t, db, scripts, true); pg.Code(err) != "55000" {
				t.Errorf("a second time: %v", err)
			}
			if err := run(t, db, scripts, false); pg.Code(err) != "0A000" {
				t.Errorf("the way back: %v", err)
			}
			if fingerprint(t, db) != before {
				t.Error("a refusal changed something")
			}
		})
	}
}

// TestTheSchemaStaysWhereColumnsHoldCells: going down would destroy the keys.
func TestTheSchemaStaysWhereColumnsHoldCells(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	scripts := written(t, styleSQL)
	refused := func(why, code string) {
		t.Helper()
		before := fingerprint(t, db)
		if err := runWhole(t, db, scripts, false); pg.Code(err) != code {
			t.Errorf("%s: %v", why, err)
		}
		if fingerprint(t, db) != before {
			t.Errorf("%s: the refusal changed something", why)
		}
	}
	refused("a column of cells", "55000")
	db.Run(t, `UPDATE cipherfleet.columns SET retired_at = now()`)
	refused("a retired column of cells", "55000")
	db.Run(t, `ALTER TABLE users DROP CONSTRAINT cipherfleet_1_cell`)
	refused("a column whose check is gone", "55000")
	db.Run(t, `ALTER TABLE users DROP email_encrypted CASCADE; CREATE TRIGGER left_over BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION cipherfleet.capture_1()`)
	refused("a capture that is left on a table", "2BP01")
	db.Run(t, `DROP TRIGGER left_over ON users; CREATE VIEW mine AS SELECT * FROM cipherfleet.events`)
	refused("a view of yours", "2BP01")
	db.Run(t, `DROP VIEW mine`)
	if err := runWhole(t, db, scripts, false); err != nil || testenv.One[string](t, db, schemaSQL) != "none" {
		t.Errorf("with nothing in the way: %v", err)
	}
}

func TestInstallCallsAreRefused(t *testing.T) {
	t.Parallel()
	s := newShell(t, "postgres://nobody@127.0.0.1:1/nothing")
	s.write("0001_there.sql", "mine", 0o600)
	there := s.path("0001_there.sql")
	for call, want := range map[string]struct {
		code          int
		message, hint string
	}{
		"--format liquibase --print":      {app.CodeUsage, `--format was "liquibase"; accepted is sql, golang-migrate, goose, drizzle`, "--help"},
		"--format goose":                  {app.CodeUsage, "--format and --from are about a file", "--help"},
		"--from 1":                        {app.CodeUsage, "--format and --from are about a file", "--help"},
		"--print --from 99":               {app.CodeUsage, "--from was 99; accepted is 0 to ", "--help"},
		"--print --from -1":               {app.CodeUsage, "--from was -1", "--help"},
		"--print --out x":                 {app.CodeUsage, "choose one", "--help"},
		"--force":                         {app.CodeUsage, "--out is missing", "--help"},
		"--out " + there:                  {app.CodeRefused, "0001_there.sql is there already", "--force"},
		"--out /nowhere/x.sql":            {app.CodeUsage, "there is no folder /nowhere", "--out"},
		"--format goose --out x.sql":      {app.CodeUsage, "goose would not find a file of that name", "0042_cipherfleet.sql"},
		"--format drizzle --out " + s.dir: {app.CodeUsage, "drizzle runs only what stands in its journal", "drizzle-kit generate --custom"},
	} {
		t.Run(call, func(t *testing.T) {
			s.run(append([]string{"install"}, strings.Fields(call)...)...).refusedWith(t, want.code, want.message, want.hint)
		})
	}
	if text := must(os.ReadFile(there)); string(text) != "mine" {
		t.Errorf("the file became %q", text)
	}
	if _, err := os.Lstat(s.path("0001_there.down.sql")); !errors.Is(err, os.ErrNotExist) {
		t.Error("half a migration was written")
	}
}

func TestInstallDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	s := newShell(t, db.URL)
	unchanged(t, db, func() {
		if o := s.must("install", "--dry-run"); !strings.HasPrefix(o.out, "would bring schema cipherfleet from version 0 to version ") {
			t.Errorf("it said %q", o.out)
		}
		if o := s.must("install", "--dry-run", "--out", s.path("x.sql")); !strings.Contains(o.out, "CREATE TABLE cipherfleet.events") {
			t.Errorf("it said %.200q", o.out)
		}
	})
	if entries := must(os.ReadDir(s.dir)); len(entries) != 0 {
		t.Errorf("it wrote %v", entries)
	}
}
