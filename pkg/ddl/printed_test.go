package ddl_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const printedCheckSQL = `SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conname = $1`

// printed is a check as the server prints it.
func printed(t *testing.T, db *testenv.DB, name string) string {
	t.Helper()
	var text string
	err := db.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT set_config('search_path', 'pg_catalog', true), set_config('bytea_output', 'hex', true)`); err != nil {
			return err
		}
		return tx.QueryRow(t.Context(), printedCheckSQL, name).Scan(&text)
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestACheckIsRecognised: under every name of its column, and not when somebody made it weaker.
func TestACheckIsRecognised(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"email_encrypted", "select", `a"b`, "Käse", "%s", "x y"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			c := ddl.Column{ID: 7, Table: pg.Table{Schema: "public", Name: "t"}, Source: "id", Target: "c"}
			db.Run(t, `CREATE TABLE t (id int, c bytea)`)
			c.Long = len(target)%2 == 0
			db.Run(t, c.Check().Do[0])
			if c.Target != target {
				db.Run(t, `ALTER TABLE t RENAME c TO `+pg.Ident(target))
				c.Target = target
			}
			name := ddl.CheckName(c.ID)
			if text := printed(t, db, name); !c.IsCheck(text) || (ddl.Column{ID: 8, Target: target}).IsCheck(text) {
				t.Errorf("not recognised: %s", text)
			}
			db.Run(t, `ALTER TABLE t DROP CONSTRAINT `+name+``)
			for _, weaker := range []string{"%s IS NULL OR octet_length(%s) >= 1", `%s LIKE '\xf5c10000000725'`, `substr(%s, 1, 32) LIKE '\xf5c10000000725'`, `substr(%s, 1, 6) LIKE '\xf5c100000007'`} {
				db.Run(t, `ALTER TABLE t ADD CONSTRAINT `+name+` CHECK (`+strings.ReplaceAll(weaker, "%s", pg.Ident(target))+`)`)
				if text := printed(t, db, name); c.IsCheck(text) {
					t.Errorf("recognised: %s", text)
				}
				db.Run(t, `ALTER TABLE t DROP CONSTRAINT `+name)
			}
		})
	}
}
