package ladder

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// watched is a column whose capture was installed an hour ago.
func watched(t *testing.T) (*Ladder, *testenv.DB) {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text, cell bytea);
		INSERT INTO cipherfleet.columns (id, relid, source_attnum, target_attnum, schema_name, table_name, source, target, type)
		 OVERRIDING SYSTEM VALUE VALUES (7, 'users'::regclass, 2, 3, 'public', 'users', 'email', 'cell', 'text');
		INSERT INTO cipherfleet.events (table_name, column_name, event, phase, created_at) VALUES ('public.users', 'email', 'schema_added', 'schema-added', now() - interval '2 hours'),
		 ('public.users', 'email', 'dual_writing', 'dual-writing', now() - interval '1 hour')`)
	c := ddl.Column{ID: 7, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "cell", Key: []string{"id"}}
	for _, step := range []ddl.Step{c.Check(), c.Capture()} {
		for _, sql := range step.Do {
			db.Run(t, sql)
		}
	}
	return &Ladder{DB: db.DB}, db
}

// gate asks whether the column was quiet for so long; nil if it was.
func gate(t *testing.T, l *Ladder, soak time.Duration) *standing.Refusal {
	t.Helper()
	s, err := l.Find(t.Context(), standing.Name{Schema: "public", Table: "users", Column: "email"})
	if err != nil {
		t.Fatal(err)
	}
	err = l.quiet(t.Context(), l.DB, s, soak)
	var refusal *standing.Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	return refusal
}

func wantGate(t *testing.T, r *standing.Refusal, code int, message, hint string) {
	t.Helper()
	switch {
	case code == app.CodeDone && r == nil:
	case r == nil || r.Code != code || !regexp.MustCompile(message).MatchString(r.Message) || !regexp.MustCompile(hint).MatchString(r.Hint):
		t.Errorf("have %+v\nwant %d, %q, %q", r, code, message, hint)
	}
	if explained, _ := app.Explain(orNil(r)); explained != code {
		t.Errorf("a command would end with %d, want %d", explained, code)
	}
}

// orNil is an error that is nil if the refusal is.
func orNil(r *standing.Refusal) error {
	if r == nil {
		return nil
	}
	return r
}

func TestTheSoakGateNamesWhoMissedTheColumnAndOpensWhenItWasQuiet(t *testing.T) {
	t.Parallel()
	l, db := watched(t)
	wantGate(t, gate(t, l, time.Hour-time.Minute), app.CodeDone, "", "")
	wantGate(t, gate(t, l, 2*time.Hour), app.CodeWaiting, `^writes to public\.users\.email have been watched for 1h0m\d+s only$`, `^wait until 20[0-9T:-]+Z: the gate wants 2h0m0s without a missed write$`)

	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role, writes) VALUES
		(7, now() - interval '10 minutes', 'billing', 'app', 3), (7, now() - interval '9 minutes', 'billing', 'app', 1),
		(7, now() - interval '30 minutes', 'long ago', 'app', 1), (8, now(), 'of another column', 'app', 1)`)
	wantGate(t, gate(t, l, 8*time.Minute), app.CodeDone, "", "")
	r := gate(t, l, 15*time.Minute)
	wantGate(t, r, app.CodeWaiting, `^writes missed the target of public\.users\.email: 4 by application "billing" as role "app", the last at 20[0-9T:-]+Z$`,
		`have those writers write both columns.*; then wait until 20[0-9T:-]+Z: the gate wants 15m0s without a missed write`)
	until, err := time.Parse(time.RFC3339, regexp.MustCompile(`until (\S+Z)`).FindStringSubmatch(r.Hint)[1])
	if now := testenv.One[time.Time](t, db, `SELECT now()`); err != nil || until.Sub(now) > 6*time.Minute || until.Sub(now) < 5*time.Minute {
		t.Errorf("it is %v, and the hint says until %v: %v", now, until, err)
	}

	db.Run(t, `INSERT INTO users VALUES (1, 'by this very test')`)
	wantGate(t, gate(t, l, 15*time.Minute), app.CodeWaiting, `: 1 by application "cipherfleet-test" as role ".*", the last .*; 4 by application "billing"`, "")
	wantGate(t, gate(t, l, 0), app.CodeDone, "", "")
}

// A name is shown as it was set, whatever it was set to, and a long list is cut.
func TestTheSoakGateNamesTheLatestWriters(t *testing.T) {
	t.Parallel()
	l, db := watched(t)
	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role) SELECT 7, now() - g * interval '1 second', E'app\n' || g, 'r' FROM generate_series(1, 8) g`)
	r := gate(t, l, time.Minute)
	wantGate(t, r, app.CodeWaiting, `"app\\n1".*"app\\n5".*; and 3 others$`, "")
	if strings.Contains(r.Message, "\n") {
		t.Errorf("a name broke the line: %q", r.Message)
	}
}

// Where capture does not see every write, silence proves nothing.
func TestTheSoakGateStaysShutWithoutCapture(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"a trigger dropped":        `DROP TRIGGER "~cipherfleet_7_insert" ON users`,
		"a trigger disabled":       `ALTER TABLE users DISABLE TRIGGER "~cipherfleet_7_insert"`,
		"a trigger not for all":    `ALTER TABLE users ENABLE TRIGGER "~cipherfleet_7_update"`,
		"its condition was empty":  `DO $$ BEGIN EXECUTE (SELECT replace(pg_get_functiondef(oid), prosrc, E'\nBEGIN RETURN false; END\n') FROM pg_proc WHERE proname = 'misses_7'); END $$`,
		"its condition was strict": `ALTER FUNCTION cipherfleet.misses_insert_7 STRICT`,
		"another condition":        `CREATE OR REPLACE TRIGGER "~cipherfleet_7_update" BEFORE UPDATE ON users FOR EACH ROW WHEN (false) EXECUTE FUNCTION cipherfleet.capture_7(); ALTER TABLE users ENABLE ALWAYS TRIGGER "~cipherfleet_7_update"`,
		"the function was empty":   `CREATE OR REPLACE FUNCTION cipherfleet.capture_7() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, db := watched(t)
			db.Run(t, harm)
			wantGate(t, gate(t, l, 0), app.CodeRefused, `^writes that miss the target of public\.users\.email go unnoticed`, `advance --to dual-writing`)
		})
	}
}

// Capture that was put back starts the soak anew.
func TestTheSoakBeginsWhenCaptureIsInstalled(t *testing.T) {
	t.Parallel()
	l, db := watched(t)
	db.Run(t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'dual_writing', 'dual-writing')`)
	wantGate(t, gate(t, l, time.Minute), app.CodeWaiting, `have been watched for \d+s only`, `the gate wants 1m0s`)
}
