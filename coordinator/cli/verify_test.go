package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// damage makes 3 rows uncovered, 2 stale and 4 broken, past capture.
const damage = `ALTER TABLE users DISABLE TRIGGER USER;
UPDATE users SET email_encrypted = NULL WHERE id IN (1, 2);
UPDATE users SET email = NULL WHERE id = 3;
UPDATE users SET email = 'plaintext' WHERE id IN (11, 12);
UPDATE users u SET email_encrypted = o.email_encrypted FROM users o WHERE u.id IN (21, 22) AND o.id = u.id + 10;
UPDATE users SET email_encrypted = set_byte(email_encrypted, 59, 255 - get_byte(email_encrypted, 59)) WHERE id = 23;
UPDATE users SET email_encrypted = overlay(email_encrypted PLACING '\x0000' FROM 7 FOR 2) WHERE id = 24;
ALTER TABLE users ENABLE TRIGGER USER`

func TestVerifyFindsWhatIsNotCovered(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 12_000) // three pages of a reader, and a bit
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	db.Run(t, damage)

	o := s.run("verify", "--table", "users", "--column", "email", "--json")
	v := parsed[verify.Result](t, o.out)
	if o.code != app.CodeUnproven || v.Proven || len(v.Columns) != 1 {
		t.Fatalf("exit code %d, %+v", o.code, v)
	}
	c := v.Columns[0]
	if c.Rows != 12_000 || c.Uncovered != 3 || c.Stale != 2 || c.Broken != 4 || c.Covered != 12_000-9 || c.Schemes[1] != 10_800-9 || len(c.Examples) != 6 {
		t.Errorf("verify said %+v", c)
	}
	if !strings.Contains(o.err, "error: not every row of public.users is covered: email (3 uncovered, 2 stale, 4 broken)\nhint: find out who writes") {
		t.Errorf("a person reads %s", o.err)
	}
	checkRecorded(t, db, o)
	status := s.column()
	if status.Verified == nil || status.Verified.Proven || *status.Coverage.Stale != 2 {
		t.Errorf("status says %+v, %+v", status.Verified, status.Coverage)
	}
	if text := s.must("status").out; !strings.Contains(text, ", NOT every row was covered, 2 were stale\n") {
		t.Errorf("a person reads\n%s", text)
	}

	db.Run(t, `UPDATE users SET email_encrypted = NULL WHERE id IN (11, 12, 21, 22, 23, 24)`)
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven || !strings.Contains(o.err, "hint: run cipherfleet backfill again") || !strings.Contains(o.out, "NOT PROVEN\n  12000 rows: 11991 covered, 9 uncovered, 0 stale, 0 broken\n") {
		t.Errorf("with rows missing: exit code %d\n%s%s", o.code, o.out, o.err)
	}
	s.must("backfill", "--table", "users", "--column", "email")
	if c := s.column(); c.Verified != nil || c.Coverage.Stale != nil {
		t.Errorf("after another job the old proof still stands: %+v", c)
	}
	if o := s.must("verify", "--table", "users"); !strings.HasPrefix(o.out, "public.users.email in email_encrypted: proven\n  12000 rows: 12000 covered, 0 uncovered, 0 stale, 0 broken\n  scheme 1: 10799 cells\n") {
		t.Errorf("in the end: %s", o.out)
	}
}

// checkRecorded: the event holds the counts, and neither event nor report holds a value or a key.
func checkRecorded(t *testing.T, db *testenv.DB, o outcome) {
	t.Helper()
	var detail map[string]any
	text := testenv.One[string](t, db, `SELECT details::text FROM cipherfleet.events WHERE event = 'verified'`)
	if err := json.Unmarshal([]byte(text), &detail); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"rows": 12000.0, "uncovered": 3.0, "stale": 2.0, "broken": 4.0, "proven": false} {
		if detail[name] != want {
			t.Errorf("the event says %s = %v, want %v", name, detail[name], want)
		}
	}
	for _, shown := range []string{text, o.out, o.err} {
		if strings.Contains(shown, "plaintext") || strings.Contains(shown, "example.org") {
			t.Errorf("a value is shown: %s", shown)
		}
	}
	if detail["examples"] != nil {
		t.Errorf("the event shows rows: %s", text)
	}
}

// TestVerifyOfSeveralKeys: two columns of a table were done by different keys, so their cells are bound differently.
func TestVerifyOfSeveralKeys(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users ("Tenant" text COLLATE "C" NOT NULL, n int NOT NULL, code uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(), email text, born date, PRIMARY KEY ("Tenant", n));
INSERT INTO users ("Tenant", n, email, born) SELECT 'tenant ' || g % 7, g, 'user' || g, date '1980-01-01' + g FROM generate_series(1, 700) g`)
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	s.must("backfill", "--table", "users", "--column", "born", "--prepare", "--key", "code")
	v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--json").out)
	if !v.Proven || len(v.Columns) != 2 || v.Columns[0].Covered != 700 || v.Columns[1].Covered != 700 {
		t.Errorf("verify said %+v", v)
	}
	v = parsed[verify.Result](t, s.must("verify", "--table", "users", "--column", "born", "--json").out)
	if !v.Proven || len(v.Columns) != 1 || v.Columns[0].Column != "born" {
		t.Errorf("verify of one column said %+v", v)
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	db.Run(t, `CREATE TABLE other (id int PRIMARY KEY)`)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	unchanged(t, db, func() {
		for call, want := range map[string]struct{ message, hint string }{
			"--table other":                          {"no column of public.other was ever prepared", "cipherfleet backfill"},
			"--table user":                           {`there is no table "user"`, `did you mean table "users"`},
			"--table users --column note":            {`column "note" of public.users was never prepared`, "cipherfleet backfill"},
			"--table users --column mail":            {`has no column "mail"`, `did you mean "email"?`},
			"--table users --column email_encrypted": {`column "email_encrypted" of public.users was never prepared`, "cipherfleet backfill"},
		} {
			s.run(append([]string{"verify"}, strings.Fields(call)...)...).refusedWith(t, app.CodeRefused, want.message, want.hint)
		}
	})
	_, at := role(t, db, "reader", `GRANT USAGE ON SCHEMA cipherfleet, public TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet, public TO %s`)
	s.with("DATABASE_URL", at).run("verify", "--table", "users").refusedWith(t, app.CodeDenied, "may not append to cipherfleet.events", "GRANT INSERT")
	s.with("DATABASE_URL", db.URL)
	db.Run(t, `ALTER TABLE users DROP CONSTRAINT users_pkey`)
	s.run("verify", "--table", "users").refusedWith(t, app.CodeRefused, "is not what its columns were prepared for, with key (id)", "cipherfleet status")
	db.Run(t, `ALTER TABLE users ADD PRIMARY KEY (id), DROP email_encrypted CASCADE`)
	s.run("verify", "--table", "users").refusedWith(t, app.CodeRefused, `column "email" of public.users or its target "email_encrypted" is gone`, "cipherfleet status")
}

// TestVerifyBesideWriters: an application that writes all the time makes nothing look wrong but what it left uncovered.
func TestVerifyBesideWriters(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 20_000)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if _, err := db.Exec(t.Context(), `UPDATE users SET email = $2 WHERE id = $1`, 1+n*7919%20_000, fmt.Sprintf("new%d", n)); err != nil {
				ended <- err
				return
			}
		}
	}()
	o := s.run("verify", "--table", "users", "--json")
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	v := parsed[verify.Result](t, o.out)
	if c := v.Columns[0]; c.Rows != 20_000 || c.Stale != 0 || c.Broken != 0 {
		t.Errorf("verify said %+v", c)
	}
}

// TestVerifyOfHeavyRows: chunks are bounded in bytes as well as in rows, so that reading one never takes long.
func TestVerifyOfHeavyRows(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	const rows, each = 600, 100_000
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, email text)`)
	db.Run(t, `INSERT INTO users SELECT g, CASE WHEN g <= 300 THEN 'light' ELSE repeat('x', $1::int) END FROM generate_series(1, $2::int) g`, each, rows)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	last, most := int64(0), int64(0)
	v := &verify.Verifier{DB: db.DB, KEK: must(kms.Open(t.Context(), "file:"+s.path("cipherfleet.kek.json"), "")), Seen: func(n, _ int64) {
		if last >= 300 {
			most = max(most, n-last)
		}
		last = n
	}}
	result, err := v.Verify(t.Context(), verify.Request{Schema: "public", Table: "users"})
	if err != nil || !result.Proven || result.Columns[0].Rows != rows {
		t.Errorf("verify said %+v, %v", result, err)
	}
	if fit := int64(4<<20/(2*each) + 1); most > fit || last != rows {
		t.Errorf("a chunk had %d heavy rows, want at most %d; %d rows in all", most, fit, last)
	}
}

// TestVerifyReadsAgainWhatTookTooLong: a chunk that the server gave up counts once, and verification goes on.
func TestVerifyReadsAgainWhatTookTooLong(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 40_000)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	pages, held := 0, make(chan pg.Tx, 2)
	v := &verify.Verifier{DB: db.DB, KEK: must(kms.Open(t.Context(), "file:"+s.path("cipherfleet.kek.json"), "")), Seen: func(_, _ int64) {
		if pages++; pages == 1 || pages == 9 {
			tx := must(db.Begin(t.Context())) // the next chunk waits for it
			must(tx.Exec(t.Context(), `LOCK TABLE users IN ACCESS EXCLUSIVE MODE`))
			held <- tx
		}
	}}
	var result verify.Result
	var err error
	go func() {
		defer close(held)
		result, err = v.Verify(t.Context(), verify.Request{Schema: "public", Table: "users"})
	}()
	givenUp := 0
	for tx := range held {
		testenv.Eventually(t, time.Minute, func() error { // what a timeout does, at a time of our own
			tag, err := db.Exec(t.Context(), `SELECT FROM (SELECT pg_cancel_backend(pid) AS done FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'SELECT t."id", t."email"%') c WHERE done`)
			if err == nil && tag.RowsAffected() == 0 {
				err = errors.New("no chunk waits")
			}
			return err
		})
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
		givenUp++
	}
	if givenUp != 2 {
		t.Errorf("%d chunks were given up", givenUp)
	}
	if err != nil || !result.Proven || result.Columns[0].Rows != 40_000 || result.Columns[0].Schemes[1] != 36_000 {
		t.Errorf("verify said %+v, %v", result, err)
	}
}
