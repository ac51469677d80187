package cli

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestWhoOwnsNotEachPartitionIsRefusedBeforehand: half of an index would be made, or one that nobody writes any more left.
func TestWhoOwnsNotEachPartitionIsRefusedBeforehand(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text) PARTITION BY HASH (id); CREATE TABLE users_0 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE users_1 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO users SELECT g, 'user' || g FROM generate_series(1, 200) g; ANALYZE users`)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	owner, at := role(t, db, "owner", "GRANT ALL ON SCHEMA public, cipherfleet TO %s", "GRANT ALL ON ALL TABLES IN SCHEMA cipherfleet, public TO %s", "GRANT ALL ON ALL SEQUENCES IN SCHEMA cipherfleet TO %s",
		"ALTER TABLE users OWNER TO %s", "ALTER TABLE users_0 OWNER TO %s")
	refused := func(args ...string) {
		t.Helper()
		unchanged(t, db, func() {
			s.with("DATABASE_URL", at).run(append([]string{"index"}, args...)...).refusedWith(t, app.CodeDenied, fmt.Sprintf("role %q may not alter public.users_1", owner), "owner of the table and of each partition")
		})
		s.with("DATABASE_URL", db.URL)
	}
	refused("new", "users.email", "bidx", "--normalise", "lower-trim")
	s.must("index", "new", "users.email", "bidx", "--normalise", "lower-trim")
	refused("build", "users.email", "bidx")
	s.must("index", "build", "users.email", "bidx")
	refused("drop", "users.email", "bidx")
	db.Run(t, "ALTER TABLE users_1 OWNER TO "+pg.Ident(owner)+"; ALTER FUNCTION cipherfleet.token_1() OWNER TO "+pg.Ident(owner)+"; ALTER FUNCTION cipherfleet.token_1_stale OWNER TO "+pg.Ident(owner)+"; ALTER SEQUENCE cipherfleet.token_1_missed OWNER TO "+pg.Ident(owner))
	s.with("DATABASE_URL", at).must("index", "drop", "users.email", "bidx")
}
