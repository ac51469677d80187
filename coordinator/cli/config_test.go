package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestConfigShowsValuesAndOrigins, and never a secret.
func TestConfigShowsValuesAndOrigins(t *testing.T) {
	t.Parallel()
	s := newShell(t, "postgres://joe:hunter2@db.example:5432/shop?sslpassword=hunter2").with("NATS_URL", "nats://tok3n@nats.example:4222").
		with("CIPHERFLEET_LEASE", "11s").with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://joe:hunter2@otel.example:4318").with("CIPHERFLEET_LOG_LEVEL", "info")
	s.intent(usersTable(""))
	s.write("other.yaml", "version: 1\nkek: file:other.json\nfleet: {chunk: {rows: 77}, user_triggers: fire}\ntables:\n"+usersTable(""), 0o644)
	shown := map[string]app.Setting{}
	for _, x := range parsed[configuration](t, s.must("config", "show", "--json", "--manifest", s.path("other.yaml")).out).Settings {
		shown[x.Name] = x
	}
	for name, want := range map[string][2]string{
		"DATABASE_URL":                {"postgres://joe@db.example:5432/shop", "environment variable DATABASE_URL"},
		"NATS_URL":                    {"nats://nats.example:4222", "environment variable NATS_URL"},
		"OTEL_EXPORTER_OTLP_ENDPOINT": {"http://otel.example:4318", "environment variable OTEL_EXPORTER_OTLP_ENDPOINT"},
		"CIPHERFLEET_LEASE":           {"11s", "environment variable CIPHERFLEET_LEASE"},
		"CIPHERFLEET_DRAIN":           {"25s", "default"},
		"CIPHERFLEET_LOG_LEVEL":       {"info", "environment variable CIPHERFLEET_LOG_LEVEL"},
		"CIPHERFLEET_MANIFEST":        {s.path("other.yaml"), "flag --manifest"},
		"CIPHERFLEET_KEK":             {"file:other.json", "manifest " + s.path("other.yaml")},
		"CIPHERFLEET_STATE_DIR":       {s.path(".local/state/cipherfleet"), "environment variable HOME"},
		"CIPHERFLEET_NATS_CREDS":      {"", "default"},
		"fleet.chunk.rows":            {"77", "manifest " + s.path("other.yaml")},
		"fleet.user_triggers":         {"fire", "manifest " + s.path("other.yaml")},
	} {
		if have := shown[name]; have.Value != want[0] || have.Origin != want[1] || have.Meaning == "" {
			t.Errorf("%s: %+v, want %v", name, have, want)
		}
	}
	text := s.with("CIPHERFLEET_KEK", "file:mine.json").must("config", "show").out
	if strings.Contains(text, "hunter2") || strings.Contains(text, "tok3n") || !strings.Contains(text, "environment variable CIPHERFLEET_KEK\n") ||
		!strings.Contains(text, "environment variable CIPHERFLEET_MANIFEST\n") {
		t.Errorf("a person reads\n%s", text)
	}
	s.with("CIPHERFLEET_MANIFEST", "")
	if o := s.with("CIPHERFLEET_LEASE", "1h").run("config", "show"); o.code != app.CodeUsage || !strings.Contains(o.err, "CIPHERFLEET_LEASE") || strings.Contains(o.err+o.out, "hunter2") {
		t.Errorf("exit code %d\n%s", o.code, o.err)
	}
	s.with("CIPHERFLEET_LEASE", "").write("bad.yaml", "version: 9\n", 0o644)
	s.run("config", "show", "--manifest", s.path("bad.yaml")).refusedWith(t, app.CodeUsage, "bad.yaml", "")
}

// A name with a slip in it would have a column sealed under the usual scheme, whatever was reviewed.
func TestAManifestThatWasNamedIsThere(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, email text); INSERT INTO users VALUES (1, 'ada')`)
	s := newShell(t, db.URL).withKey().with("CIPHERFLEET_KEK", "file:"+filepath.Join(t.TempDir(), "none.json"))
	s.with("CIPHERFLEET_MANIFEST", s.path("none.yaml"))
	for _, command := range []string{"backfill --table users --column email", "plan", "status", "config show", "serve --embedded"} {
		s.run(strings.Fields(command)...).refusedWith(t, app.CodeUsage, "there is no manifest "+s.path("none.yaml"), "CIPHERFLEET_MANIFEST")
	}
	db.Run(t, `CREATE SCHEMA cipherfleet`) // nothing made it
}

func TestTheUsualManifestIsWhereNobodyNamesOne(t *testing.T) {
	t.Parallel()
	if config, err := app.Parse[app.Coordinator]([]string{"HOME=/h"}); err != nil || config.Manifest != app.DefaultManifest {
		t.Errorf("%q, %v", config.Manifest, err)
	}
}

// Who asks for a bound that nothing keeps is told so, and does not believe in it; those of the fleet that are kept are a
// backfill's, unless a flag says otherwise.
func TestTheFleetOfAManifestIsHeededOrRefused(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, email text); INSERT INTO users SELECT i, 'user' || i FROM generate_series(1, 50) i`)
	s := newShell(t, db.URL).withKey()
	fleet := func(text string) {
		s.write("cipherfleet.yaml", "version: 1\nfleet: {"+text+"}\ntables:\n- {table: users, columns: [{source: email, schemes: {1: {}}}]}\n", 0o644)
	}
	for text, name := range map[string]string{"concurrency: 2": "fleet.concurrency", "rows_per_second: 1000, lock_timeout: 5s": "fleet.rows_per_second, fleet.lock_timeout",
		"chunk: {time: 1s, bytes: 1MiB}": "fleet.chunk.bytes, fleet.chunk.time", "statement_timeout: 1s": "fleet.statement_timeout", "quarantine_budget: 1": "fleet.quarantine_budget"} {
		fleet(text)
		for _, command := range [][]string{{"plan"}, {"backfill", "--table", "users", "--column", "email", "--prepare"}, {"config", "show"}} {
			s.run(command...).refusedWith(t, app.CodeUsage, "nothing heeds "+name+" yet", "leave it out")
		}
	}
	fleet("concurrency: 8, chunk: {rows: 7}, user_triggers: fire")
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	const specSQL = `SELECT concat_ws(' ', spec->'limits'->>'Rows', spec->'limits'->>'rows', spec->>'user_triggers') FROM cipherfleet.jobs ORDER BY created_at DESC LIMIT 1`
	if have := testenv.One[string](t, db, specSQL); have != "7 fire" {
		t.Errorf("the job has %q", have)
	}
	s.must("backfill", "--table", "users", "--column", "email", "--chunk-rows", "9", "--user-triggers", "skip")
	if have := testenv.One[string](t, db, specSQL); have != "9 skip" {
		t.Errorf("the job has %q", have)
	}
	db.Run(t, `ALTER TABLE users ADD note text DEFAULT 'n'`)
	s.must("advance", "users.note", "--to", "backfilling") // a backfill is what it comes to
	if have := testenv.One[string](t, db, specSQL); have != "7 fire" {
		t.Errorf("the job of an advance has %q", have)
	}
}
