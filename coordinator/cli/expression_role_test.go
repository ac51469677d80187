package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestTheRightsForAnExpressionSuffice runs a fleet with the rights of the manual, and those that docs/transforms.md adds.
func TestTheRightsForAnExpressionSuffice(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 2000)
	s := newStaff(t, db)
	s.obey(`ALTER TABLE users OWNER TO table_owner; GRANT USAGE, CREATE ON SCHEMA public TO table_owner; GRANT USAGE ON SCHEMA public TO shop, fleet_coordinator;
GRANT SELECT, INSERT, UPDATE, DELETE ON users TO shop; ALTER TABLE users ADD loud text, ADD form int, ADD email_encrypted bytea;
CREATE FUNCTION public.shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'; REVOKE ALL ON FUNCTION public.shout FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.shout TO shop, fleet_coordinator`)
	coordinator, workers := manual(t, "The coordinator"), manual(t, "A worker")
	s.obey(coordinator[0])
	nats := testenv.NATS(t)
	lead := newShell(t, s.at["fleet_coordinator"]).withKey().inNATS(nats)
	lead.must("install")
	s.obey(workers[0])
	s.obey(`GRANT UPDATE (loud, form) ON users TO fleet_worker`)
	lead.serve()
	s.hire(nats, lead.path("cipherfleet.kek.json"))
	answers(t, lead)

	backfill := []string{"backfill", "--table", "users", "--column", "email", "--target", "loud", "--transform", "expression", "--expression", "public.shout(email)"}
	if o := lead.run(backfill...); o.code != app.CodeUnproven || !strings.Contains(o.err, "42501") {
		t.Errorf("without a right to the function: exit code %d, %s", o.code, o.err)
	}
	s.obey(`GRANT EXECUTE ON FUNCTION public.shout TO fleet_worker`)
	if o := lead.must(backfill...); !strings.Contains(o.out, "backfilled public.users: 1800 rows") {
		t.Errorf("the fleet said %s", o.out)
	}
	shop := testenv.Open(t, s.at["shop"])
	shop.Run(t, `INSERT INTO users (id, email) VALUES (5001, 'new'); UPDATE users SET email = 'other' WHERE id = 1`)
	if n := testenv.One[int](t, shop, `SELECT count(*) FROM users WHERE loud IS DISTINCT FROM upper(email)`); n != 0 {
		t.Errorf("%d rows have another value", n)
	}
	worker := testenv.Open(t, s.at["fleet_worker"])
	for _, sql := range []string{`UPDATE users SET email = 'x'`, `DROP FUNCTION cipherfleet.value_1`, `CREATE OR REPLACE FUNCTION cipherfleet.value_1(email text) RETURNS text LANGUAGE sql AS 'SELECT 1'`} {
		if _, err := worker.Exec(t.Context(), sql); pg.ClassOf(err) != pg.ClassDenied {
			t.Errorf("a worker may %s: %v", sql, err)
		}
	}
}
