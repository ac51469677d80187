package lifecycle_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// everything is what the catalog knows beside Postgres's own, without oids.
const everything = `SELECT coalesce(md5(string_agg(x, E'\n' ORDER BY x)), '') FROM (
 SELECT concat_ws(' ', nspname, nspacl) x FROM pg_namespace WHERE nspname !~ '^pg_'
 UNION ALL SELECT concat_ws(' ', oid::regclass, relkind, relacl, reloptions, obj_description(oid)) FROM pg_class WHERE relnamespace::regnamespace::text = 'cipherfleet'
 UNION ALL SELECT concat_ws(' ', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE relnamespace::regnamespace::text = 'cipherfleet'
 UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace::regnamespace::text = 'cipherfleet'
 UNION ALL SELECT concat_ws(' ', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE NOT tgisinternal
 UNION ALL SELECT concat_ws(' ', pg_get_functiondef(oid), proacl) FROM pg_proc WHERE pronamespace::regnamespace::text = 'cipherfleet') x`

func TestInstallIsIdempotent(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	var prints [2]string
	for i := range prints {
		if err := lifecycle.Install(t.Context(), db.DB); err != nil {
			t.Fatal(err)
		}
		prints[i] = testenv.One[string](t, db, everything) + testenv.One[string](t, db, "SELECT id::text FROM cipherfleet.installation")
	}
	if prints[0] != prints[1] {
		t.Error("the second install changed something")
	}
}

// Each of the sessions has found before that there is no such schema, as whoever says what is missing does.
func TestConcurrentInstallsAreOne(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	var sessions []*pg.Conn
	for range 8 {
		session, err := db.DB.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		testenv.One[bool](t, session, "SELECT to_regclass('cipherfleet.installation') IS NULL")
		sessions = append(sessions, session)
	}
	for _, session := range sessions {
		session.Release()
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := lifecycle.Install(t.Context(), db.DB); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	version, err := lifecycle.Version()
	if got := testenv.One[int](t, db, "SELECT schema_version FROM cipherfleet.installation"); got != version || err != nil {
		t.Errorf("version %d, want %d, %v", got, version, err)
	}
}

func TestPrintDoesWhatInstallDoes(t *testing.T) {
	t.Parallel()
	printed, installed := testenv.EmptyDatabase(t), testenv.EmptyDatabase(t)
	var script bytes.Buffer
	if err := lifecycle.Print(&script); err != nil {
		t.Fatal(err)
	}
	if text, err := lifecycle.Schema(); err != nil || text != script.String() {
		t.Errorf("the schema as a text is another one, or %v", err)
	}
	printed.Run(t, "SET search_path = information_schema")
	printed.Run(t, script.String())
	for _, db := range []*testenv.DB{printed, installed} {
		if err := lifecycle.Install(t.Context(), db.DB); err != nil {
			t.Fatal(err)
		}
	}
	if testenv.One[string](t, printed, everything) != testenv.One[string](t, installed, everything) {
		t.Error("the printed DDL makes another schema than Install")
	}
}

func TestInstallGoesFromVersionToVersion(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	if err := lifecycle.Install(t.Context(), db.DB); err != nil {
		t.Fatal(err)
	}
	known, _ := lifecycle.Version()
	broken := func(texts []string) []string {
		return append(texts, "CREATE TABLE cipherfleet.more (a int);\n", "CREATE TABLE cipherfleet.yet_more (a int); SELECT 1/0;\n")
	}
	if err := lifecycle.InstallWith(t.Context(), db.DB, broken); pg.Code(err) != "22012" {
		t.Fatalf("the broken version passed: %v", err)
	}
	if version, err := lifecycle.Installed(t.Context(), db); version != known+1 || err != nil {
		t.Errorf("version %d, want %d: each version commits by itself; %v", version, known+1, err)
	}
	if testenv.One[bool](t, db, "SELECT to_regclass('cipherfleet.yet_more') IS NOT NULL OR to_regclass('cipherfleet.more') IS NULL") {
		t.Error("a version is half made")
	}
	before := testenv.One[string](t, db, everything)
	var newer *lifecycle.NewerError
	if err := lifecycle.Install(t.Context(), db.DB); !errors.As(err, &newer) || newer.Installed != known+1 || !strings.Contains(err.Error(), "newer") {
		t.Errorf("an older program installed over a newer schema: %v", err)
	}
	if testenv.One[string](t, db, everything) != before {
		t.Error("the refusal changed something")
	}
}

func TestInstallThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, "CREATE SCHEMA cipherfleet; CREATE TABLE cipherfleet.events (theirs int)")
	before := testenv.One[string](t, db, everything)
	if err := lifecycle.Install(t.Context(), db.DB); pg.Code(err) != "42P07" {
		t.Errorf("installed over a foreign table: %v", err)
	}
	if testenv.One[string](t, db, everything) != before {
		t.Error("something is left of a failed install")
	}
}

func TestInstallUnderHostileDefaults(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE SCHEMA evil; CREATE FUNCTION evil.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
		CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.no)`)
	name := pg.Ident(testenv.One[string](t, db, "SELECT current_database()"))
	for _, setting := range []string{"default_transaction_read_only = on", "default_transaction_isolation = 'repeatable read'", "search_path = evil, pg_catalog",
		"statement_timeout = '1s'", "lock_timeout = '10ms'", "standard_conforming_strings = off", "check_function_bodies = off"} {
		db.Run(t, "ALTER DATABASE "+name+" SET "+setting)
	}
	hostile := testenv.Open(t, db.URL)
	holder, err := db.Begin(t.Context()) // somebody installs already, for longer than lock_timeout
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", lifecycle.InstallLock); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- lifecycle.Install(t.Context(), hostile.DB) }()
	testenv.Eventually(t, time.Minute, func() error {
		if !testenv.One[bool](t, db, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event ~ 'advisory' AND clock_timestamp() - query_start > '50ms')") {
			return errors.New("the install does not wait")
		}
		return nil
	})
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	appendAll(t, db, full()) // evil.= would let no event pass its constraint
}

func TestTheSchemaIsNotForEverybody(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC")
	if err := lifecycle.Install(t.Context(), db.DB); err != nil {
		t.Fatal(err)
	}
	open := testenv.Column[string](t, db, `SELECT oid::regclass::text FROM pg_class, aclexplode(relacl) WHERE relnamespace = 'cipherfleet'::regnamespace AND grantee = 0
	 UNION SELECT proname FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE pronamespace = 'cipherfleet'::regnamespace AND grantee = 0
	 UNION SELECT nspname FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'cipherfleet' AND grantee = 0`)
	if len(open) > 0 {
		t.Errorf("everybody has rights on %v", open)
	}
}

func TestEveryTableSaysWhatItIs(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	if silent := testenv.Column[string](t, db, `SELECT relname::text FROM pg_class WHERE relnamespace = 'cipherfleet'::regnamespace AND relkind = 'r' AND obj_description(oid) IS NULL`); len(silent) > 0 {
		t.Errorf("no comment on %v", silent)
	}
}
