package cli

import (
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestCellsThatChangeTheirFormGoOnWhereTheyWereKilled: cells that get another binding, another suite or another type, by a
// process that is killed in the middle: the same command goes on, and each cell is written once.
func TestCellsThatChangeTheirFormGoOnWhereTheyWereKilled(t *testing.T) {
	t.Parallel()
	move := []string{"backfill", "--table", "users", "--column", "email", "--target", "email_text", "--type", "text", "--transform", "reencrypt", "--from", "cipherfleet", "--prepare"}
	rotate := []string{"rotate", "users.email"}
	for what, c := range map[string]struct {
		before, scheme, job []string
		left                string // the condition that a cell is not yet what it is to be
	}{
		"from none to pk":  {[]string{"scheme", "new", "users.email", "--binding", "none"}, []string{"scheme", "new", "users.email", "--binding", "pk"}, rotate, `substr(email, 7, 2) <> '\x0003'`},
		"to another suite": {nil, []string{"scheme", "new", "users.email", "--suite", "aes-256-siv"}, rotate, `substr(email, 7, 2) <> '\x0002'`},
		"to a text column": {nil, nil, move, `email_text IS NULL`},
		"from siv to xaes": {[]string{"scheme", "new", "users.email", "--suite", "aes-256-siv"}, []string{"scheme", "new", "users.email", "--suite", "xaes-256-gcm", "--binding", "pk", "--padding", "64"}, rotate, `substr(email, 7, 2) <> '\x0003'`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 4_000)
			db.Run(t, `CREATE TABLE oracle AS SELECT id, email FROM users`)
			s := newShell(t, db.URL).withKey()
			s.must(backfillUsers()...)
			s.must("verify", "--table", "users")
			s.must("cutover", "users.email", "--soak", "0")
			s.must("drop", "users.email", "--apply")
			if c.before != nil {
				s.must(c.before...)
				s.must(rotate...)
			}
			if c.scheme != nil {
				s.must(c.scheme...)
			}
			db.Run(t, `CREATE TABLE written (id int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO written VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER note AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note()`)
			slowed(t, db)
			command := append(append([]string{}, c.job...), "--chunk-rows", "200", "--user-triggers", "fire")
			p := s.start(command...)
			testenv.Eventually(t, time.Minute, func() error {
				if testenv.One[int](t, db, `SELECT count(*) FROM written`) < 400 {
					return errors.New("too little was written yet")
				}
				return nil
			})
			if err := p.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			p.end(t)
			left := `SELECT count(*) FROM users WHERE email IS NOT NULL AND ` + c.left
			if testenv.One[int](t, db, left) == 0 {
				t.Fatal("it was too late to kill it")
			}
			db.Run(t, `DROP TRIGGER slow ON users`)
			jobs := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs`)
			s.must(command...)
			if n := testenv.One[int](t, db, left); n != 0 || testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs`) != jobs {
				t.Errorf("%d cells are left, and there are %d jobs more", n, testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs`)-jobs)
			}
			once := `SELECT count(*) = 3600 AND count(DISTINCT id) = 3600 AND (SELECT sum(rows_processed) FROM cipherfleet.events WHERE job_id = (SELECT id FROM cipherfleet.jobs ORDER BY created_at DESC LIMIT 1)) = 3600 FROM written`
			if !testenv.One[bool](t, db, once) {
				t.Errorf("%d writes of %d rows", testenv.One[int](t, db, `SELECT count(*) FROM written`), testenv.One[int](t, db, `SELECT count(DISTINCT id) FROM written`))
			}
			if c.scheme == nil { // the cells of the new type become the column
				s.must("verify", "--table", "users", "--column", "email_text")
				s.must("cutover", "users.email_text", "--soak", "0")
				s.must("drop", "users.email_text", "--apply")
			}
			s.must("decrypt", "users.email", "--reason", "a test")
			if n := testenv.One[int](t, db, `SELECT count(*) FROM users u JOIN oracle o USING (id) WHERE u.email IS DISTINCT FROM o.email`); n != 0 {
				t.Errorf("%d values differ", n)
			}
		})
	}
}
