package cli

import (
	"fmt"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// Two columns that were one pass are not swept together any more once a later job went over one of them, or that one was
// cut over. The other one is looked after all the same, and from then on by a job of its own.
func TestAColumnThatWasOneOfTwoIsSweptAlone(t *testing.T) {
	t.Parallel()
	for name, part := range map[string]func(s *shell){
		"another job": func(s *shell) { s.must(backfillUsers()...) },
		"a cutover": func(s *shell) {
			s.must("verify", "--table", "users")
			s.must("cutover", "users.email", "--soak", "0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 100)
			s := newShell(t, db.URL).withKey()
			s.must("backfill", "--table", "users", "--column", "email", "--column", "note", "--prepare")
			part(s)
			nats := testenv.NATS(t)
			s.inNATS(nats).with("CIPHERFLEET_RECONCILE", "200ms").serve()
			leads(t, db)
			hand(t, db, s, nats, "a worker")
			for id := 1; id < 4; id += 2 { // again and again
				db.Run(t, `UPDATE users SET note = 'missed' WHERE id = $1`, id)
				testenv.Eventually(t, time.Minute, func() error {
					if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE note IS NOT NULL AND note_encrypted IS NULL`); n > 0 {
						return fmt.Errorf("%d rows were left without a cell", n)
					}
					return nil
				})
			}
			testenv.Eventually(t, time.Minute, func() error {
				if state := testenv.One[string](t, db, `SELECT state FROM cipherfleet.jobs ORDER BY created_at DESC LIMIT 1`); state != "done" {
					return fmt.Errorf("the job is %s", state)
				}
				return nil
			})
			const alone = `SELECT count(*) FROM cipherfleet.jobs WHERE jsonb_path_query_array(spec, '$.columns[*].source') = '["note"]' AND spec->'unasked' = 'true'`
			if n := testenv.One[int](t, db, alone); n != 1 {
				t.Errorf("%d jobs are over the other column alone", n)
			}
			s.must("verify", "--table", "users", "--column", "note")
		})
	}
}

// TestADecryptedColumnIsSweptByItself: its plaintext is another column than the one that the last job knew, so the fleet
// sweeps what is missed by a job of its own.
func TestADecryptedColumnIsSweptByItself(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.must("verify", "--table", "users")
	s.must("cutover", "users.email", "--soak", "0")
	s.must("drop", "users.email", "--apply")
	s.must("decrypt", "users.email", "--reason", "a test")
	nats := testenv.NATS(t)
	s.inNATS(nats).with("CIPHERFLEET_RECONCILE", "200ms").serve()
	leads(t, db)
	hand(t, db, s, nats, "a worker")
	for id := 1; id < 4; id += 2 { // by a job of its own, and by that one again
		db.Run(t, `UPDATE users SET email = 'missed' WHERE id = $1`, id)
		testenv.Eventually(t, time.Minute, func() error {
			if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE email IS NOT NULL AND email_encrypted IS NULL`); n > 0 {
				return fmt.Errorf("%d rows were left without a cell", n)
			}
			if state := testenv.One[string](t, db, `SELECT string_agg(DISTINCT state, ' ') FROM cipherfleet.jobs`); state != "done" {
				return fmt.Errorf("the jobs are %s", state)
			}
			return nil
		})
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.jobs WHERE spec->'unasked' = 'true'`); n != 1 {
		t.Errorf("the fleet began %d jobs by itself", n)
	}
	s.must("verify", "--table", "users")
}
