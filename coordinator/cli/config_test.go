package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
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
		"fleet.chunk.time":            {"250ms", "default"},
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
	s.with("CIPHERFLEET_MANIFEST", s.path("none.yaml")).must("config", "show")
	if o := s.with("CIPHERFLEET_LEASE", "1h").run("config", "show"); o.code != app.CodeUsage || !strings.Contains(o.err, "CIPHERFLEET_LEASE") || strings.Contains(o.err+o.out, "hunter2") {
		t.Errorf("exit code %d\n%s", o.code, o.err)
	}
	s.with("CIPHERFLEET_LEASE", "").write("bad.yaml", "version: 9\n", 0o644)
	s.run("config", "show", "--manifest", s.path("bad.yaml")).refusedWith(t, app.CodeUsage, "bad.yaml", "")
}
