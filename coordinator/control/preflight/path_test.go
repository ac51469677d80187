package preflight_test

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// A role or a database may list a user's schema before pg_catalog; what it defines there is not for us.
func TestPreflightTakesNothingFromTheSearchPath(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	sql := users + `; ALTER TABLE t ADD email_encrypted bytea; INSERT INTO t VALUES (1, 'x'); CREATE SCHEMA hostile; CREATE TABLE hostile.pg_class ();
		CREATE DOMAIN hostile.int4 AS int CHECK (false); CREATE DOMAIN hostile.bytea AS pg_catalog.bytea CHECK (false); CREATE DOMAIN hostile.text AS pg_catalog.text CHECK (false);
		CREATE FUNCTION hostile.format(pg_catalog.text, VARIADIC pg_catalog.text[]) RETURNS pg_catalog.text LANGUAGE plpgsql AS 'BEGIN RAISE ''hostile''; END'; `
	for i, kind := range []string{"pg_catalog.text", "name", "oid", "int", "bigint", "smallint", `"char"`, "boolean", "pg_catalog.bytea"} {
		for j, operator := range strings.Fields("= <> <") {
			sql += fmt.Sprintf(`CREATE FUNCTION hostile.f%[1]d_%[2]d(%[3]s, %[3]s) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''hostile''; END';
				CREATE OPERATOR hostile.%[4]s (LEFTARG = %[3]s, RIGHTARG = %[3]s, FUNCTION = hostile.f%[1]d_%[2]d); `, i, j, kind, operator)
		}
	}
	db.Run(t, sql)
	db.Run(t, `ALTER TABLE public.t SET (autovacuum_enabled = false)`)
	db.Run(t, `ANALYZE public.t`) // estimates are of this from now on, whenever the server gets round to count
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("search_path", "hostile,public,pg_catalog")
	u.RawQuery = query.Encode()
	hostile := testenv.Open(t, u.String())
	if _, err := hostile.Exec(t.Context(), `SELECT 1 = 2`); pg.Code(err) != "P0001" {
		t.Fatalf("the schema is not hostile: %v", err)
	}
	want, err := preflight.Intend(t.Context(), db.DB, ask("public"), "file:x")
	if err != nil {
		t.Fatal(err)
	}
	have, err := preflight.Intend(t.Context(), hostile.DB, ask("public"), "file:x")
	if err != nil || !reflect.DeepEqual(have, want) {
		t.Errorf("have %+v, %v\nwant %+v", have, err, want)
	}
}
