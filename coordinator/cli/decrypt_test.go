package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// decryptUsers is the command of these tests.
func decryptUsers() []string {
	return []string{"decrypt", "users.email", "--reason", "a test", "--user-triggers", "fire"}
}

// droppedUsers are n people whose e-mails are cells alone.
func droppedUsers(t *testing.T, n int) (*testenv.DB, *shell, *reader) {
	t.Helper()
	db, s, r := encryptedUsers(t, n, "")
	s.must("drop", "users.email", "--apply")
	return db, s, r
}

// opens is how many cells were opened into the plaintext that came back.
func opens(t *testing.T, db *testenv.DB) int {
	t.Helper()
	return testenv.One[int](t, db, `SELECT count(email_plaintext) FROM users`)
}

// TestADecryptionGivesBackWhatACutoverMoved: who could read and write the plaintext by a right on it, and still may the
// cells, can again; its comment and its default are there.
func TestADecryptionGivesBackWhatACutoverMoved(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	_, reader := role(t, db, "reads", "GRANT SELECT (id, email), UPDATE (email) ON users TO %s")
	dismissed, gone := role(t, db, "dismissed", "GRANT SELECT (id, email) ON users TO %s")
	db.Run(t, `COMMENT ON COLUMN users.email IS 'the address'; ALTER TABLE users ALTER email SET DEFAULT 'nobody'`)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.must("verify", "--table", "users")
	s.must("cutover", "users.email", "--soak", "0")
	s.must("drop", "users.email", "--apply")
	db.Run(t, "REVOKE SELECT (email) ON users FROM "+pg.Ident(dismissed))
	s.must(decryptUsers()...)

	as := testenv.Open(t, reader)
	if n := testenv.One[int](t, as, `SELECT count(email) FROM users`); n != 90 {
		t.Errorf("who could read it reads %d values", n)
	}
	if _, err := as.Exec(t.Context(), `UPDATE users SET email = 'other' WHERE id = 1`); err != nil {
		t.Errorf("who could write it: %v", err)
	}
	if _, err := testenv.Open(t, gone).Exec(t.Context(), `SELECT email FROM users`); pg.ClassOf(err) != pg.ClassDenied {
		t.Errorf("who was dismissed meanwhile: %v", err)
	}
	const lookSQL = `SELECT concat_ws(' ', a.attname, pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)) FROM pg_attribute a
 LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = 'users'::regclass AND a.attname LIKE 'email%' ORDER BY 1`
	if have := strings.Join(testenv.Column[string](t, db, lookSQL), "; "); have != "email 'nobody'::text the address; email_encrypted" {
		t.Errorf("the columns are %s", have)
	}
}

// forge puts a dropped column back as if somebody had decided it, but for the decision.
func forge(t *testing.T, db *testenv.DB) {
	t.Helper()
	db.Run(t, `ALTER TABLE users ADD email_plaintext text;
UPDATE cipherfleet.columns SET source_attnum = (SELECT attnum FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'email_plaintext');
INSERT INTO cipherfleet.events (table_name, column_name, event, phase, details) SELECT table_name, column_name, 'advanced', 'cut-over', NULL FROM cipherfleet.events WHERE event = 'cut_over'
 UNION ALL SELECT table_name, column_name, event, phase, details FROM cipherfleet.events WHERE event = 'cut_over'`)
}

// TestWithoutTheDecisionNobodyOpens: whatever a log, a message or a command says, of a dropped column nobody opens a cell
// into plaintext, neither the fleet nor a process of its own.
func TestWithoutTheDecisionNobodyOpens(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"alone", "in a fleet"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			db, s, _ := droppedUsers(t, 100)
			forge(t, db)
			if way == "in a fleet" {
				s.inNATS(testenv.NATS(t)).serve("--workers", "1")
				answers(t, s)
			}
			before := fingerprint(t, db)
			s.run("rollback", "users.email", "--reason", "curiosity", "--user-triggers", "fire").refusedWith(t, app.CodeRefused, "nobody has recorded since that it is to be decrypted", "INSERT into cipherfleet.decryptions")
			if fingerprint(t, db) != before && way == "alone" { // a fleet's leases are renewed
				t.Error("the database was changed")
			}
			if n := opens(t, db); n != 0 {
				t.Errorf("%d cells were opened", n)
			}
		})
	}
}

// TestADecryptionOutlivesTheRightToDecide: the decision is on record. Killed half-way, the command goes on although its
// role may not decide such things any more; the next column is refused.
func TestADecryptionOutlivesTheRightToDecide(t *testing.T) {
	t.Parallel()
	db, s, r := droppedUsers(t, 4000)
	braked(t, db)
	clerk, at := role(t, db, "clerk", "ALTER TABLE users OWNER TO %s", "GRANT USAGE, CREATE ON SCHEMA public TO %s", "GRANT USAGE, CREATE ON SCHEMA cipherfleet TO %s",
		"GRANT ALL ON ALL TABLES IN SCHEMA cipherfleet TO %s", "GRANT ALL ON ALL SEQUENCES IN SCHEMA cipherfleet TO %s",
		"ALTER FUNCTION public.brake() OWNER TO %s")
	s.with("DATABASE_URL", at)
	p := s.start(decryptUsers()...)
	cellsOpened(t, db)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	if n := opens(t, db); n == 0 || n >= 3600 {
		t.Fatalf("killed after %d cells", n)
	}
	db.Run(t, "DROP TRIGGER brake ON users; REVOKE INSERT ON cipherfleet.decryptions FROM "+pg.Ident(clerk))
	s.must(decryptUsers()...)
	r.wantRead("email")
	wantNoResidue(t, db)
	if who := testenv.Column[string](t, db, `SELECT actor || ': ' || reason FROM cipherfleet.decryptions`); len(who) != 1 || !strings.HasSuffix(who[0], ": a test") {
		t.Errorf("decided by %v", who)
	}
	s.must("verify", "--table", "users")
	s.must("cutover", "users.email", "--soak", "0")
	s.must("drop", "users.email", "--apply")
	unchanged(t, db, func() {
		s.run(decryptUsers()...).refusedWith(t, app.CodeDenied, "", "")
	})
}

// TestWorkersWhoMayNotWriteThePlaintext: a worker has no right to the column that comes back, gets it, and loses it in the
// middle. Each time the job ends and says why, and the same command goes on.
func TestWorkersWhoMayNotWriteThePlaintext(t *testing.T) {
	t.Parallel()
	db, s, r := droppedUsers(t, 3000)
	roles := newStaff(t, db)
	roles.obey(strings.ReplaceAll(manual(t, "A worker")[0], "email_encrypted", "email"))
	nats := testenv.NATS(t)
	s.inNATS(nats).serve()
	roles.hire(nats, s.path("cipherfleet.kek.json"))
	answers(t, s)
	denied := func(when string, o outcome) {
		t.Helper()
		if o.code != app.CodeUnproven || !strings.Contains(o.err, "42501") || !strings.Contains(o.err, "hint: ") {
			t.Errorf("%s: exit code %d: %s", when, o.code, o.err)
		}
	}
	denied("without the right", s.run(decryptUsers()...))
	if n := opens(t, db); n != 0 {
		t.Errorf("%d cells were opened", n)
	}
	braked(t, db)
	roles.obey(`GRANT UPDATE (email_plaintext) ON users TO fleet_worker`)
	ended := make(chan outcome, 1)
	go func() { ended <- s.runUntil(t.Context(), decryptUsers()...) }()
	cellsOpened(t, db)
	roles.obey(`REVOKE UPDATE (email_plaintext) ON users FROM fleet_worker`)
	denied("the right was taken away", <-ended)
	if n := opens(t, db); n == 0 || n >= 2700 {
		t.Errorf("%d cells were opened", n)
	}
	db.Run(t, `DROP TRIGGER brake ON users`)
	roles.obey(`GRANT UPDATE (email_plaintext) ON users TO fleet_worker`)
	for id := int64(1); id <= 3000; id += 250 { // the application goes on meanwhile
		word := fmt.Sprint("meanwhile ", id)
		r.exec("", id, &word, `UPDATE users SET email = $2 WHERE id = $1`, id, r.cell(id, word))
	}
	s.must(decryptUsers()...)
	r.wantRead("email")
	wantNoResidue(t, db)
}
