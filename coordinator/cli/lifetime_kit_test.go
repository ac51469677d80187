package cli

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// cutByHand does to a backfilled table, users.email, what a cutover that swaps names comes to.
func cutByHand(t *testing.T, db *testenv.DB) {
	t.Helper()
	c := ddl.Column{ID: testenv.One[uint32](t, db, `SELECT id FROM cipherfleet.columns`), Table: pg.Table{Schema: "public", Name: "users"},
		Source: "email", Target: "email_encrypted", Key: []string{"id"}}
	for _, sql := range c.Capture().Undo {
		db.Run(t, sql)
	}
	db.Run(t, `ALTER TABLE users RENAME email TO email_plaintext; ALTER TABLE users RENAME email_encrypted TO email`)
	c.Source, c.Target = "email_plaintext", "email"
	for _, sql := range c.ReverseCapture().Do {
		db.Run(t, sql)
	}
	db.Run(t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'cut_over', 'cut-over')`)
}

// cutOverUsers is a table of n rows whose column email is encrypted and cut over, and a shell for it.
func cutOverUsers(t *testing.T, n int) (*testenv.DB, *shell) {
	t.Helper()
	db := testenv.Database(t)
	people(t, db, n)
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	cutByHand(t, db)
	return db, s
}

func phaseOf(t *testing.T, db *testenv.DB) string {
	t.Helper()
	return testenv.One[string](t, db, `SELECT phase FROM cipherfleet.events WHERE column_name = 'email' ORDER BY id DESC LIMIT 1`)
}

func columnsOf(t *testing.T, db *testenv.DB, table string) string {
	t.Helper()
	return testenv.One[string](t, db, fmt.Sprintf(`SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '%s'::regclass AND attnum > 0 AND NOT attisdropped`, table))
}
