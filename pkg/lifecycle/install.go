package lifecycle

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

//go:embed schema/*.sql
var schema embed.FS

// installing is the advisory lock under which versions are installed.
const installing = 0x6366_696e_7374_616c // "cfinstal"

// NewerError refuses a schema that a later release installed.
type NewerError struct{ Installed, Known int }

// Error says what to do.
func (e *NewerError) Error() string {
	return fmt.Sprintf("schema cipherfleet is at version %d, this program knows up to %d: use the newer program", e.Installed, e.Known)
}

// Version is the schema version this program installs and works with.
func Version() (int, error) {
	all, err := versions()
	return len(all), err
}

// versions are the texts that lead from each version to the next, the first from nothing.
func versions() ([]string, error) {
	names, err := fs.Glob(schema, "schema/*.sql") // sorted
	if err != nil {
		return nil, fmt.Errorf("list schema versions: %w", err)
	}
	texts := make([]string, len(names))
	for i, name := range names {
		if !strings.HasPrefix(name, fmt.Sprintf("schema/%03d_", i+1)) {
			return nil, fmt.Errorf("list schema versions: %s is not number %d", name, i+1)
		}
		text, err := schema.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read schema version %d: %w", i+1, err)
		}
		texts[i] = string(text)
	}
	return texts, nil
}

// pinInstall keeps the database's defaults out of the DDL. The lock may be waited for as long as the caller wants.
const pinInstall = `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
 pg_catalog.set_config('statement_timeout', '0', true), pg_catalog.set_config('lock_timeout', '0', true),
 pg_catalog.set_config('standard_conforming_strings', 'on', true);
`

const recordVersion = `INSERT INTO cipherfleet.installation (schema_version) VALUES (%[1]d)
 ON CONFLICT (one) DO UPDATE SET schema_version = %[1]d;
`

// Install brings schema cipherfleet to this program's version. It is idempotent and safe to run several times at once.
// Each version commits by itself, with its number. A schema that is newer than the program is a [*NewerError].
func Install(ctx context.Context, db *pg.DB) error {
	texts, err := versions()
	if err != nil {
		return err
	}
	return install(ctx, db, texts)
}

func install(ctx context.Context, db *pg.DB, texts []string) error {
	for {
		installed, err := installNext(ctx, db, texts)
		if err != nil {
			return fmt.Errorf("install schema cipherfleet: %w", err)
		}
		if installed >= len(texts) {
			return nil
		}
	}
}

// installNext moves the schema up by one version, or not if it is current, and returns where it stands.
func installNext(ctx context.Context, db *pg.DB, texts []string) (version int, err error) {
	err = db.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, pinInstall); err != nil {
			return fmt.Errorf("pin settings: %w", err)
		}
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_xact_lock($1)", int64(installing)); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if version, err = Installed(ctx, tx); err != nil || version == len(texts) {
			return err
		}
		if version > len(texts) {
			return &NewerError{Installed: version, Known: len(texts)}
		}
		if _, err := tx.Exec(ctx, texts[version]+fmt.Sprintf(recordVersion, version+1)); err != nil {
			return fmt.Errorf("version %d: %w", version+1, err)
		}
		version++
		return nil
	})
	return version, err
}

// existsSQL reads the catalog's tables. A function that looks names up might answer out of the session's cache, which
// hears of what others did when the transaction begins, and not again while it waits for the lock of an install.
const existsSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'cipherfleet' AND c.relname = 'installation')`

// Installed is the version of the schema in this database, 0 if there is none.
func Installed(ctx context.Context, q pg.Querier) (int, error) {
	var exists bool
	if err := q.QueryRow(ctx, existsSQL).Scan(&exists); err != nil || !exists {
		return 0, wrap("look for the schema", err)
	}
	var version int
	err := q.QueryRow(ctx, "SELECT coalesce(pg_catalog.max(schema_version), 0) FROM cipherfleet.installation").Scan(&version)
	return version, wrap("read the schema's version", err)
}

// Print writes the whole DDL, from an empty database to this program's version, one transaction per version. Run by
// psql or a migration tool it does what [Install] does.
func Print(w io.Writer) error {
	texts, err := versions()
	if err != nil {
		return err
	}
	for i, text := range texts {
		if _, err := fmt.Fprintf(w, "-- cipherfleet schema, version %d\nBEGIN;\n%s%s%sCOMMIT;\n", i+1, pinInstall, text, fmt.Sprintf(recordVersion, i+1)); err != nil {
			return fmt.Errorf("print schema version %d: %w", i+1, err)
		}
	}
	return nil
}

// Schema is what [Print] writes: the whole DDL as one text, for a migration of somebody's own. It begins and ends its
// transactions itself.
func Schema() (string, error) {
	var text strings.Builder
	err := Print(&text)
	return text.String(), err
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
