package testenv_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	one, two := testenv.EmptyDatabase(t), testenv.EmptyDatabase(t)
	one.Run(t, "CREATE TABLE only_here ()")
	if testenv.One[bool](t, two, "SELECT to_regclass('only_here') IS NOT NULL") {
		t.Error("two databases share a table")
	}
	names := testenv.Column[string](t, one, "SELECT nspname::text FROM pg_namespace WHERE nspname IN ('public', 'cipherfleet')")
	if len(names) != 1 || names[0] != "public" {
		t.Errorf("an empty database holds the schemas %v", names)
	}
}

func TestDatabaseHasTheSchema(t *testing.T) {
	t.Parallel()
	one, two := testenv.Database(t), testenv.Database(t)
	for _, db := range []*testenv.DB{one, two} {
		if version, err := lifecycle.Installed(t.Context(), db); version == 0 || err != nil {
			t.Errorf("schema cipherfleet has version %d, %v", version, err)
		}
	}
	one.Run(t, "CREATE TABLE only_here ()")
	if testenv.One[bool](t, two, "SELECT to_regclass('only_here') IS NOT NULL") {
		t.Error("two databases share a table")
	}
}

func TestDatabasesAreDroppedWithTheirTest(t *testing.T) {
	t.Parallel()
	outer := testenv.EmptyDatabase(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		inner := testenv.EmptyDatabase(t)
		name = testenv.One[string](t, inner, "SELECT current_database()::text")
	})
	if testenv.One[bool](t, outer, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name) {
		t.Errorf("%s is still there", name)
	}
}

func TestTheProductionInTheEnvironmentIsNotUsed(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	if u.Port() == "1" || u.User.Username() == "production" || strings.Contains(u.Path, "production") {
		t.Errorf("connected to %s", u.Redacted())
	}
}

func TestDurablePostgresSurvivesItsMurder(t *testing.T) {
	t.Parallel()
	server := testenv.DurablePostgres(t)
	db := testenv.Open(t, server.URL("postgres"))
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		if got := testenv.One[string](t, db, "SELECT current_setting($1)", setting); got != "on" {
			t.Errorf("%s is %s", setting, got)
		}
	}
	db.Run(t, "CREATE TABLE kept AS SELECT 42 AS n")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error { // the pool has to notice its broken connections
		var n int
		if err := db.QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n); err != nil || n != 42 {
			return fmt.Errorf("read %d, %w", n, err)
		}
		return nil
	})
}

func TestDatabaseIsAQuerier(t *testing.T) {
	t.Parallel()
	var _ pg.Querier = testenv.EmptyDatabase(t)
}
