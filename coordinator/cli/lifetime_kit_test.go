package cli

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// cutByHand does to the only registered column of a backfilled table what a cutover that swaps names comes to.
func cutByHand(t *testing.T, db *testenv.DB, table pg.Table, source, key string) {
	t.Helper()
	c := ddl.Column{ID: testenv.One[uint32](t, db, `SELECT id FROM cipherfleet.columns`), Table: table, Source: source, Target: source + "_encrypted", Key: []string{key}}
	for _, sql := range c.Capture().Undo {
		db.Run(t, sql)
	}
	rename := "ALTER TABLE " + table.SQL() + " RENAME "
	db.Run(t, rename+pg.Ident(source)+" TO "+pg.Ident(source+"_plaintext"))
	db.Run(t, rename+pg.Ident(source+"_encrypted")+" TO "+pg.Ident(source))
	c.Source, c.Target = source+"_plaintext", source
	for _, sql := range c.ReverseCapture().Do {
		db.Run(t, sql)
	}
	db.Run(t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ($1, $2, 'cut_over', 'cut-over')`, table.String(), source)
}

// cutOverUsers is a table of n rows whose column email is encrypted and cut over, and a shell for it.
func cutOverUsers(t *testing.T, n int) (*testenv.DB, *shell) {
	t.Helper()
	db := testenv.Database(t)
	return db, cutOverIn(t, db, n)
}

func cutOverIn(t *testing.T, db *testenv.DB, n int) *shell {
	t.Helper()
	people(t, db, n)
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	cutByHand(t, db, pg.Table{Schema: "public", Name: "users"}, "email", "id")
	return s
}

func phaseOf(t *testing.T, db *testenv.DB) string {
	t.Helper()
	return testenv.One[string](t, db, `SELECT phase FROM cipherfleet.events ORDER BY id DESC LIMIT 1`)
}

func columnsOf(t *testing.T, db *testenv.DB, table string) string {
	t.Helper()
	return testenv.One[string](t, db, fmt.Sprintf(`SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '%s'::regclass AND attnum > 0 AND NOT attisdropped`, table))
}
