package cli

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// unwanted is a table that cannot be done, and what backfill says to it.
type unwanted struct {
	setup         string // with the schema first on the search path
	flags         string // after --schema …; empty: --table t --column email --prepare
	code          int    // 0: refused
	message, hint string
}

const plain = `CREATE TABLE t (id int PRIMARY KEY, email text)`

// unwantedTables has one of each kind; the checks themselves, with all their cases, are tested in package control.
func unwantedTables() map[string]unwanted {
	return map[string]unwanted{
		"no table":         {setup: plain, flags: "--table tt --column email", message: `there is no table "tt"`, hint: `did you mean table "t"`},
		"no column":        {setup: plain, flags: "--table t --column mail", message: `has no column "mail"`, hint: `did you mean "email"?`},
		"no target":        {setup: plain, flags: "--table t --column email", message: `has no column "email_encrypted"`, hint: "--prepare adds it"},
		"wrong type":       {setup: plain + `; ALTER TABLE t ADD email_encrypted varchar(9)`, message: `has type character varying(9), accepted is bytea, text or jsonb`, hint: "name another target"},
		"target not null":  {setup: plain + `; ALTER TABLE t ADD email_encrypted bytea NOT NULL`, message: "is NOT NULL", hint: "DROP NOT NULL"},
		"foreign target":   {setup: plain + `; ALTER TABLE t ADD email_encrypted bytea; INSERT INTO t VALUES (1, 'x', '\x00')`, message: "no cells of this column", hint: "SET \"email_encrypted\" = NULL"},
		"no key":           {setup: `CREATE TABLE t (id int, email text)`, message: "no primary key", hint: "CREATE UNIQUE INDEX"},
		"key not unique":   {setup: plain, flags: "--table t --column email --key email --prepare", message: "two rows could share a key", hint: "keys that can be used: (id)"},
		"source in key":    {setup: `CREATE TABLE t (email text PRIMARY KEY)`, message: "part of the key", hint: "--key"},
		"generated source": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text GENERATED ALWAYS AS ('x') STORED)`, message: "is generated", hint: "computed from"},
		"partition key": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text) PARTITION BY RANGE (id)`, flags: "--table t --column id --prepare",
			message: "partition key", hint: "another column"},
		"a partition":        {setup: `CREATE TABLE t (id int PRIMARY KEY, email text) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t DEFAULT`, flags: "--table t1 --column email --prepare", message: "is a partition of", hint: "all its partitions"},
		"inheritance parent": {setup: plain + `; CREATE TABLE child () INHERITS (t)`, message: "inherit", hint: "NO INHERIT"},
		"update rule":        {setup: plain + `; CREATE RULE r AS ON UPDATE TO t DO INSTEAD NOTHING`, message: `rule "r" rewrites every UPDATE`, hint: "trigger"},
		"view":               {setup: plain + `; CREATE VIEW v AS TABLE t`, flags: "--table v --column email --prepare", message: "is a view", hint: "holds the rows"},
		"system table":       {flags: "--schema pg_catalog --table pg_class --column relname --prepare", message: "belongs to Postgres", hint: "of your own"},
		"own table":          {flags: "--schema cipherfleet --table events --column actor --prepare", message: "cipherfleet's own", hint: "of your own"},
		"unlogged table":     {setup: `CREATE UNLOGGED TABLE t (id int PRIMARY KEY, email text)`, message: "is unlogged", hint: "SET LOGGED"},
		"own triggers": {setup: plain + `; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; CREATE TRIGGER stamp BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()`,
			message: `triggers of your own: "stamp"`, hint: "--user-triggers fire"},
		"a type without codec": {setup: `CREATE TABLE t (id int PRIMARY KEY, email regclass)`, message: "cannot be sealed", hint: "type"},
		"source is target":     {setup: plain, flags: "--table t --column email --target email", code: app.CodeUsage, message: "same column", hint: ""},
		"bad chunk":            {setup: plain, flags: "--table t --column email --chunk-rows -1", code: app.CodeUsage, message: "chunk_rows: was -1", hint: ""},
	}
}

func TestBackfillRefusesTables(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	s := newShell(t, db.URL).withKey()
	for name, test := range unwantedTables() {
		t.Run(name, func(t *testing.T) {
			schema := strings.ReplaceAll(name, " ", "_")
			db.Run(t, "CREATE SCHEMA "+schema)
			if test.setup != "" {
				db.Run(t, "SET search_path = "+schema+"; "+test.setup+"; RESET search_path")
			}
			if test.flags == "" {
				test.flags = "--table t --column email --prepare"
			}
			args := append([]string{"backfill", "--schema", schema}, strings.Fields(test.flags)...)
			if test.code == 0 {
				test.code = app.CodeRefused
			}
			unchanged(t, db, func() { s.run(args...).refusedWith(t, test.code, test.message, test.hint) })
		})
	}
}

// calls are commands that are wrong whatever the database holds.
func TestCallsAreRefused(t *testing.T) {
	t.Parallel()
	s := newShell(t, "postgres://nobody@127.0.0.1:1/nothing")
	for call, want := range map[string]struct{ message, hint string }{
		"bakfill":                    {`unknown command "bakfill"`, "did you mean `cipherfleet backfill`?"},
		"what":                       {`unknown command "what"`, "see `cipherfleet --help`"},
		"backfill":                   {"--table is missing", "cipherfleet backfill --help"},
		"backfill --table t":         {"--column is missing", "cipherfleet backfill --help"},
		"backfill users email":       {`takes no arguments, but got "users"`, "cipherfleet backfill --help"},
		"backfill --tabel t":         {"unknown flag: --tabel", "cipherfleet backfill --help"},
		"backfill --chunk-rows many": {`invalid argument "many"`, "cipherfleet backfill --help"},
		"init --table t":             {"--column is missing", "cipherfleet init --help"},
		"init --table t --column a --target b --target c":           {"more targets than columns", "cipherfleet init --help"},
		"init --table t --column a --manifest /nowhere/at/all.yaml": {"there is no folder /nowhere/at for the manifest", "--manifest"},
		"backfill --table t --column a --user-triggers maybe":       {`user_triggers: was "maybe"; accepted is fire or skip`, "cipherfleet backfill --help"},
		"backfill --table t --column a --column a":                  {"names the same column", "cipherfleet backfill --help"},
		"verify":                   {"--table is missing", "cipherfleet verify --help"},
		"help bakfill":             {`there is no command "bakfill"`, "did you mean `cipherfleet backfill`?"},
		"help index what":          {`there is no command "index what"`, "see `cipherfleet --help`"},
		"cutover":                  {"the column is missing: name it, as in users.email", "cipherfleet cutover --help"},
		"cutover --table t":        {"--column is missing", "cipherfleet cutover --help"},
		"status t":                 {`takes no arguments, but got "t"`, "cipherfleet status --help"},
		"install --print --json":   {"choose one", "cipherfleet install --help"},
		"serve --workers 1000":     {"--workers was 1000; accepted is 0 to 256", "cipherfleet serve --help"},
		"serve":                    {"NATS_URL is not set", "--embedded"},
		"serve --embedded --now 1": {"unknown flag: --now", "cipherfleet serve --help"},
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			s.run(strings.Fields(call)...).refusedWith(t, app.CodeUsage, want.message, want.hint)
		})
	}
}

func TestTheEnvironmentIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ variable, value, message string }{
		"no database":  {"DATABASE_URL", "", "DATABASE_URL is not set; accepted is a Postgres URL"},
		"no URL":       {"DATABASE_URL", "users", "DATABASE_URL was "},
		"a password":   {"DATABASE_URL", "mysql://me:secret@db/app", "DATABASE_URL was \"mysql://db/app\""},
		"a bad lease":  {"CIPHERFLEET_LEASE", "soon", `CIPHERFLEET_LEASE was "soon"; accepted is a duration from 1s to 10m`},
		"a short wait": {"CIPHERFLEET_ACK_WAIT", "5s", `CIPHERFLEET_ACK_WAIT was "5s"; accepted is longer than CIPHERFLEET_LEASE`},
		"a log level":  {"CIPHERFLEET_LOG_LEVEL", "loud", `CIPHERFLEET_LOG_LEVEL was "loud"; accepted is debug or info or warn or error`},
		"a NATS URL":   {"NATS_URL", "http://nats", "NATS_URL was"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t, "postgres://nobody@127.0.0.1:1/nothing").with(test.variable, test.value)
			for _, command := range []string{"backfill --table t --column c", "status", "verify --table t", "install", "init --table t --column c"} {
				o := s.run(strings.Fields(command)...)
				o.refusedWith(t, app.CodeUsage, test.message, "docs/configuration.md")
				if strings.Contains(o.err, "secret") {
					t.Errorf("a secret is shown: %s", o.err)
				}
			}
		})
	}
}

// everyCommand is each command that needs Postgres.
func everyCommand() []string {
	return []string{"install", "init --table users --column email --force", "backfill --table users --column email --prepare", "status", "verify --table users", "drop users.email", "residue users.email"}
}

func TestPostgresIsOutOfReach(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	closed, wrong, none := *must(url.Parse(db.URL)), *must(url.Parse(db.URL)), *must(url.Parse(db.URL))
	closed.Host, none.Path = "127.0.0.1:1", "/there_is_no_such_database"
	asked := closed
	asked.RawQuery = "" // whether the server wants TLS
	wrong.User = url.UserPassword(wrong.User.Username(), "not-the-secret")
	for name, test := range map[string]struct {
		at            url.URL
		code          int
		message, hint string
	}{
		"nobody listens":   {closed, app.CodeUnavailable, "reach Postgres", "DATABASE_URL"},
		"with or without":  {asked, app.CodeUnavailable, "reach Postgres", "DATABASE_URL"},
		"wrong password":   {wrong, app.CodeDenied, "28P01", "another role in DATABASE_URL"},
		"no such database": {none, app.CodeUnavailable, "3D000", "DATABASE_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t, test.at.String()).withKey()
			for _, command := range everyCommand() {
				o := s.run(strings.Fields(command)...)
				o.refusedWith(t, test.code, test.message, test.hint)
				if strings.Contains(o.err, "not-the-secret") {
					t.Errorf("a password is shown: %s", o.err)
				}
				if strings.Count(o.err, "\n") != 2 {
					t.Errorf("%s: more than an error and a hint: %s", command, o.err)
				}
			}
			if _, err := os.Stat(s.path("cipherfleet.yaml")); err == nil {
				t.Error("a manifest was written")
			}
		})
	}
}

func TestARoleWithoutRightsIsDenied(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	_, at := role(t, db, "nobody")
	s := newShell(t, at).withKey()
	unchanged(t, db, func() {
		for command, message := range map[string]string{
			"install": "insufficient privilege", "status": "insufficient privilege", "verify --table users": "insufficient privilege",
			"init --table users --column email":               "insufficient privilege",
			"backfill --table users --column email --prepare": "insufficient privilege",
		} {
			s.run(strings.Fields(command)...).refusedWith(t, app.CodeDenied, message, "grant what is missing")
		}
	})
}

func TestRowSecurityIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	_, at := role(t, db, "tenant", `ALTER TABLE users OWNER TO %s`, `GRANT USAGE ON SCHEMA public, cipherfleet TO %s`, `GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA cipherfleet TO %s`)
	db.Run(t, `ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users FORCE ROW LEVEL SECURITY`)
	s := newShell(t, at).withKey()
	unchanged(t, db, func() {
		for _, command := range []string{"backfill --table users --column email --prepare", "verify --table users"} {
			s.run(strings.Fields(command)...).refusedWith(t, app.CodeRefused, "row security hides rows of public.users", "BYPASSRLS")
		}
	})
}

func TestAReadOnlyServerIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	u := must(url.Parse(db.URL))
	query := u.Query()
	query.Set("default_transaction_read_only", "on")
	u.RawQuery = query.Encode()
	s := newShell(t, u.String()).withKey()
	unchanged(t, db, func() {
		s.run("backfill", "--table", "users", "--column", "email", "--prepare").refusedWith(t, app.CodeRefused, "read-only by default_transaction_read_only", "primary")
	})
	s.must("status")
}

func TestANewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	db.Run(t, `UPDATE cipherfleet.installation SET schema_version = 999`)
	s := newShell(t, db.URL).withKey()
	unchanged(t, db, func() {
		for _, command := range []string{"install", "status", "verify --table users", "backfill --table users --column email --prepare"} {
			s.run(strings.Fields(command)...).refusedWith(t, app.CodeRefused, "version 999", "or a later one")
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
