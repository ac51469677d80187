package ladder_test

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestACutoverTakesNothingFromTheSearchPath, and no rollback: a role or a database may list a schema before pg_catalog, and
// an operator there would have the rights of whoever cuts over.
func TestACutoverTakesNothingFromTheSearchPath(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	db.Run(t, `CREATE SCHEMA hostile`)
	for i, kind := range []string{"oid", "name", "text", "smallint", "bigint", `"char"`} {
		db.Run(t, fmt.Sprintf(`CREATE FUNCTION hostile.f%[1]d(%[2]s, %[2]s) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''hostile''; END';
CREATE OPERATOR hostile.= (LEFTARG = %[2]s, RIGHTARG = %[2]s, FUNCTION = hostile.f%[1]d)`, i, kind))
	}
	db.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = hostile, public, pg_catalog', current_database()); END $$`)
	hostile := testenv.Open(t, db.URL)
	if _, err := hostile.Exec(t.Context(), `SELECT 1::oid = 2::oid`); pg.Code(err) != "P0001" {
		t.Fatalf("the schema is not hostile: %v", err)
	}
	l := &ladder.Ladder{DB: hostile.DB, Actor: "tester"}
	if _, err := l.Cutover(t.Context(), r.request()); err != nil {
		t.Fatalf("the cutover: %v", err)
	}
	if _, err := r.rollback(t.Context(), l); err != nil {
		t.Errorf("the rollback: %v", err)
	}
}
