package cli

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestMemoryDoesNotGrowWithTheTable: coordinator and worker in one process, which may have no more memory than the table
// has data, encrypt it, seal it anew and verify it. A process that asks for more is ended by the system.
func TestMemoryDoesNotGrowWithTheTable(t *testing.T) {
	t.Parallel()
	const rows, each, limit = 4200, 100_000, 384 << 20
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text)`)
	db.Run(t, fmt.Sprintf(`INSERT INTO users SELECT g, repeat(md5(g::text), %d / 32) FROM generate_series(1, %d) g`, each, rows))
	if n := testenv.One[int64](t, db, `SELECT sum(length(email))::bigint FROM users`); n <= limit {
		t.Fatalf("the table has %d bytes of values, which is no more than the limit", n)
	}
	s := newShell(t, db.URL).withKey().with("GOMEMLIMIT", "200MiB")
	s.program = filepath.Join(testenv.Programs(t), "cipherfleet") // the race detector would take more than the limit for itself
	limited := func(args ...string) {
		t.Helper()
		p := s.start(args...)
		if o := p.end(t); o.code != app.CodeDone {
			t.Fatalf("%v: exit code %d: %s%.4000s", args, o.code, o.out, o.err)
		}
	}
	s.limit = fmt.Sprint(limit >> 10)
	limited(backfillUsers()...)
	anotherScheme(t, db, s, nil)
	limited("rotate", "users.email")
	limited("verify", "--table", "users")
	s.limit = fmt.Sprint(24 << 10) // it would not even begin with much less
	if o := s.start("verify", "--table", "users").end(t); o.code == app.CodeDone {
		t.Error("the limit does not hold")
	}
}
