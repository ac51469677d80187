package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const goodManifest = `version: 1
kek: file:cipherfleet.kek.json
tables:
  - table: users
    columns:
      - {source: email, schemes: {1: {}}}
`

func TestKeysAreRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	newShell(t, db.URL).withKey().must(backfillUsers()...) // what is not sealed needs no key to be verified
	for name, test := range map[string]struct {
		prepare       func(*shell)
		code          int
		message, hint string
	}{
		"missing": {func(*shell) {}, app.CodeUnavailable, "no such file", "`cipherfleet init` creates it"},
		"corrupt": {func(s *shell) { s.write("cipherfleet.kek.json", "{}", 0o600) }, app.CodeRefused, "not a Tink keyset", "backup"},
		"group-readable": {func(s *shell) {
			if err := os.Chmod(s.withKey().path("cipherfleet.kek.json"), 0o640); err != nil {
				s.t.Fatal(err)
			}
		}, app.CodeRefused, "is exposed", "chmod 600"},
		"of an unknown kind": {func(s *shell) { s.with("CIPHERFLEET_KEK", "vault:secret/token") }, app.CodeUsage, `CIPHERFLEET_KEK was "vault:…"; accepted is file:PATH`, "docs/configuration.md"},
		"of a path alone":    {func(s *shell) { s.with("CIPHERFLEET_KEK", s.path("cipherfleet.kek.json")) }, app.CodeUsage, "cipherfleet.kek.json\"; accepted is file:PATH", "docs/configuration.md"},
		"of an unknown kind in the manifest": {func(s *shell) {
			s.write("cipherfleet.yaml", strings.Replace(goodManifest, "file:cipherfleet.kek.json", "vault:secret/token", 1), 0o644)
		}, app.CodeUsage, "accepted: file", "file:PATH"},
		"elsewhere, not there": {func(s *shell) { s.withKey().with("CIPHERFLEET_KEK", "file:"+s.path("other.json")) }, app.CodeUnavailable, "other.json", "init"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShell(t, db.URL)
			test.prepare(s)
			for _, command := range []string{"backfill --table users --column email --prepare", "serve --embedded --nats-port 0 --listen off", "verify --table users"} {
				unchanged(t, db, func() {
					o := s.run(strings.Fields(command)...)
					o.refusedWith(t, test.code, test.message, test.hint)
					if strings.Contains(o.err, "token") {
						t.Errorf("the rest of the URI is shown: %s", o.err)
					}
				})
			}
		})
	}
}

// keptSQL is one text that changes with every row, event and key, but not with who leads.
const keptSQL = `SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (SELECT concat('row', u) AS line FROM users u
 UNION ALL SELECT concat('event', e) FROM cipherfleet.events e UNION ALL SELECT concat('key', d) FROM cipherfleet.deks d) all_of_it`

// TestAnotherKeyIsRefused: the key's file is whole and private, but it is not the one that wrapped the data keys.
func TestAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	newShell(t, db.URL).withKey().must(backfillUsers()...)
	stranger := newShell(t, db.URL).withKey()
	db.Run(t, `UPDATE users SET email = 'new' WHERE id = 1`)
	before := testenv.One[string](t, db, keptSQL) + testenv.One[string](t, db, catalogSQL)
	for _, command := range []string{"verify --table users", "backfill --table users --column email"} {
		stranger.run(strings.Fields(command)...).refusedWith(t, app.CodeRefused, "wrapped under a key that is not in this file", "name the key file")
	}
	if testenv.One[string](t, db, keptSQL)+testenv.One[string](t, db, catalogSQL) != before {
		t.Error("something was changed")
	}
}

// TestADamagedRegistryIsRefused: what a superuser or a bad disk can do to the keys in the registry.
func TestADamagedRegistryIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ damage, message string }{
		"canary flipped":      {`UPDATE cipherfleet.deks SET canary = set_byte(canary, length(canary) - 1, get_byte(canary, length(canary) - 1) # 1)`, "does not authenticate"},
		"canary cut":          {`UPDATE cipherfleet.deks SET canary = substr(canary, 1, 5)`, "not a cell"},
		"wrapped key deleted": {`SET session_replication_role = replica; ALTER TABLE cipherfleet.deks DISABLE TRIGGER never_deleted; DELETE FROM cipherfleet.deks; RESET session_replication_role`, "its wrapped key is gone"},
		"wrapped key blanked": {`UPDATE cipherfleet.deks SET wrapped = NULL, destroyed_at = now()`, "its wrapped key is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 10)
			s := newShell(t, db.URL).withKey()
			s.must(backfillUsers()...)
			db.Run(t, test.damage)
			before := testenv.One[string](t, db, keptSQL)
			for _, command := range []string{"verify --table users", "backfill --table users --column email"} {
				s.run(strings.Fields(command)...).refusedWith(t, app.CodeRefused, test.message, "cipherfleet.deks back from a backup")
				if o := s.run(strings.Fields(command)...); !strings.Contains(o.err, "scheme 1 of public.users.email: ") {
					t.Errorf("%s does not say whose: %s", command, o.err)
				}
			}
			if testenv.One[string](t, db, keptSQL) != before {
				t.Error("something was changed")
			}
		})
	}
}

func TestManifestsAreRefused(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 10)
	for name, test := range map[string]struct{ text, message, hint string }{
		"corrupt":     {"tables: [", "cipherfleet.yaml:1:", ""},
		"empty":       {"", "the file is empty", "init"},
		"future":      {strings.Replace(goodManifest, "version: 1", "version: 2", 1), "cipherfleet.yaml:1:10", ""},
		"unknown key": {goodManifest + "colour: red\n", "colour", ""},
		"said twice":  {"version: 1\n" + goodManifest, "version", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t, db.URL).withKey()
			s.write("cipherfleet.yaml", test.text, 0o644)
			unchanged(t, db, func() {
				for _, command := range []string{"backfill --table users --column email --prepare", "serve --embedded --nats-port 0 --listen off", "verify --table users", "status",
					"init --table users --column email --force"} {
					s.run(strings.Fields(command)...).refusedWith(t, app.CodeUsage, test.message, test.hint)
				}
			})
			if text, err := os.ReadFile(s.path("cipherfleet.yaml")); string(text) != test.text {
				t.Errorf("the manifest was changed: %s, %v", text, err)
			}
		})
	}
}

func TestInitLeavesWhatIsThere(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL)
	s.must("init", "--table", "users", "--column", "email")
	key := must(os.ReadFile(s.path("cipherfleet.kek.json")))
	s.run("init", "--table", "users", "--column", "note").refusedWith(t, app.CodeRefused, "cipherfleet.yaml is there already", "--force")
	if text := string(must(os.ReadFile(s.path("cipherfleet.yaml")))); !strings.Contains(text, "source: email") {
		t.Errorf("the manifest was replaced:\n%s", text)
	}
	o := s.must("init", "--table", "users", "--column", "note", "--column", "email", "--target", "sealed", "--force", "--json")
	did := parsed[map[string]any](t, o.out)
	if did["kek_created"] != false || did["next"] != "cipherfleet backfill --table users --column note --target sealed --column email --target email_encrypted --prepare" {
		t.Errorf("init said %v", did)
	}
	if text := string(must(os.ReadFile(s.path("cipherfleet.yaml")))); !strings.Contains(text, "source: note") || !strings.Contains(text, "target: sealed") {
		t.Errorf("the manifest was not replaced:\n%s", text)
	}
	if string(must(os.ReadFile(s.path("cipherfleet.kek.json")))) != string(key) {
		t.Error("the key was replaced")
	}
}

// TestInitKeepsTheManifestsKey: replacing a manifest must not lose where the key is.
func TestInitKeepsTheManifestsKey(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL)
	s.write("cipherfleet.yaml", strings.Replace(goodManifest, "cipherfleet.kek.json", "keys/mine.json", 1), 0o644)
	if err := os.Mkdir(s.path("keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.must("init", "--table", "users", "--column", "email", "--force")
	if text := string(must(os.ReadFile(s.path("cipherfleet.yaml")))); !strings.Contains(text, "kek: file:keys/mine.json") {
		t.Errorf("the manifest is\n%s", text)
	}
	if _, err := os.Stat(s.path("keys/mine.json")); err != nil {
		t.Error(err)
	}
}

// TestInitMissesALostKey: a new key would open nothing that the old one wrapped.
func TestInitMissesALostKey(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	if err := os.Remove(s.path("cipherfleet.kek.json")); err != nil {
		t.Fatal(err)
	}
	unchanged(t, db, func() {
		s.run("init", "--table", "users", "--column", "note").refusedWith(t, app.CodeRefused, "are wrapped by a key already (file:"+s.path("cipherfleet.kek.json")+")", "backup")
	})
	for _, name := range []string{"cipherfleet.kek.json", "cipherfleet.yaml"} {
		if _, err := os.Stat(s.path(name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}

func TestInitTellsOfTriggersAndQuotes(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE SCHEMA "Odd Shop"; CREATE TABLE "Odd Shop"."it's" ("No." int PRIMARY KEY, "E Mail" text);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER touched BEFORE UPDATE ON "Odd Shop"."it's" FOR EACH ROW EXECUTE FUNCTION stamp()`)
	s := newShell(t, db.URL)
	file := s.path("odd shop.yaml")
	o := s.must("init", "--schema", "Odd Shop", "--table", "it's", "--column", "E Mail", "--manifest", file)
	next := `next: CIPHERFLEET_MANIFEST='` + file + `' cipherfleet backfill --schema 'Odd Shop' --table 'it'\''s' --column 'E Mail' --prepare` + "\n"
	if !strings.HasSuffix(o.out, next) || !strings.Contains(o.out, "add --user-triggers fire or --user-triggers skip:\n  touched on Odd Shop.it's calls public.stamp\n") {
		t.Errorf("init said %s", o.out)
	}
	o = s.must("init", "--schema", "Odd Shop", "--table", "it's", "--column", "E Mail", "--manifest", file, "--force", "--user-triggers", "fire")
	if !strings.HasSuffix(o.out, "--prepare --user-triggers fire\n") || strings.Contains(o.out, "touched") {
		t.Errorf("init said %s", o.out)
	}
	if text := string(must(os.ReadFile(file))); !strings.Contains(text, "user_triggers: fire") || !strings.Contains(text, "key: [No.]") {
		t.Errorf("the manifest is\n%s", text)
	}
	s.with("CIPHERFLEET_MANIFEST", file).must("backfill", "--schema", "Odd Shop", "--table", "it's", "--column", "E Mail", "--prepare", "--user-triggers", "fire")
}

func TestInitRefusesWhatBackfillRefuses(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE bare (email text); CREATE TABLE users (id int PRIMARY KEY, email text, kind regclass)`)
	for call, want := range map[string]struct{ message, hint string }{
		"--table bare --column email": {"no primary key", "CREATE UNIQUE INDEX"},
		"--table user --column email": {`there is no table "user"`, `did you mean table "users"`},
		"--table users --column mail": {`has no column "mail"`, `did you mean "email"?`},
		"--table users --column id":   {"part of the key", "--key"},
		"--table users --column kind": {"cannot be sealed", "type"},
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			s := newShell(t, db.URL)
			s.run(append([]string{"init"}, strings.Fields(call)...)...).refusedWith(t, app.CodeRefused, want.message, want.hint)
			if names := must(os.ReadDir(s.dir)); len(names) > 0 {
				t.Errorf("%v was made", names)
			}
		})
	}
}

// TestAKeyEncryptionKeyIsReplacedWhileAFleetRuns: coordinator and worker know both, and are never restarted. When the old
// one is gone they open what they sealed before and seal under a scheme that was made since.
func TestAKeyEncryptionKeyIsReplacedWhileAFleetRuns(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 200)
	s := newShell(t, db.URL).withKey()
	before, next := "file:"+s.path("cipherfleet.kek.json"), "file:"+s.path("next.kek.json")
	s.with("CIPHERFLEET_KEK", before).must(backfillUsers()...)
	if err := kms.CreateFile(s.path("next.kek.json")); err != nil {
		t.Fatal(err)
	}
	s.with("CIPHERFLEET_KEK", before+","+next).inNATS(testenv.NATS(t)).serve("--workers", "1")
	answers(t, s)
	if o := s.must("key", "rotate-kek", "--to", next); !strings.Contains(o.out, "wrapped 1 keys under "+next) {
		t.Errorf("it says %s", o.out)
	}
	if err := os.Remove(s.path("cipherfleet.kek.json")); err != nil {
		t.Fatal(err)
	}
	operator := newShell(t, db.URL).with("CIPHERFLEET_KEK", next).with("NATS_URL", s.env["NATS_URL"]).with("CIPHERFLEET_NATS_TOKEN_FILE", s.env["CIPHERFLEET_NATS_TOKEN_FILE"])
	operator.must("scheme", "new", "users.email")
	operator.must("rotate", "users.email")
	operator.must("verify", "--table", "users")
	if keks := testenv.Column[string](t, db, `SELECT DISTINCT kek FROM cipherfleet.deks`); len(keks) != 1 || keks[0] != next {
		t.Errorf("keys are under %v", keks)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE substr(email_encrypted, 7, 2) = '\x0002'`); n != 180 {
		t.Errorf("%d cells were sealed anew", n)
	}
	// Without the old one's file, one who still names it second begins all the same; one who names it first does not.
	operator.with("CIPHERFLEET_KEK", next+","+before).must("verify", "--table", "users")
	operator.with("CIPHERFLEET_KEK", before+","+next).run("verify", "--table", "users").refusedWith(t, app.CodeUnavailable, "no such file", "")
	operator.with("CIPHERFLEET_KEK", next+","+next).run("key", "rewrap").refusedWith(t, app.CodeUsage, "it is named twice", "name each")
}
