package cli

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestAPartitionThatLeavesInMidJobStopsNothing: a row of it is held, so that the job cannot end before it is gone.
func TestAPartitionThatLeavesInMidJobStopsNothing(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]string{"dropped": `DROP TABLE users_1`, "detached": `ALTER TABLE users DETACH PARTITION users_1`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text) PARTITION BY HASH (id);
				CREATE TABLE users_0 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE users_1 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 1);
				INSERT INTO users SELECT g, 'user' || g FROM generate_series(1, 1000) g`)
			s := newShell(t, db.URL).withKey()
			s.must(backfillUsers()...) // what a lock on a row would keep from being prepared
			db.Run(t, `UPDATE users SET email = email || '!'`)
			ended := make(chan outcome, 1)
			err := db.InTx(t.Context(), func(tx pg.Tx) error {
				if _, err := tx.Exec(t.Context(), `SELECT FROM users_1 ORDER BY id LIMIT 1 FOR UPDATE`); err != nil {
					return err
				}
				go func() { ended <- s.runUntil(context.WithoutCancel(t.Context()), backfillUsers()...) }()
				testenv.Eventually(t, time.Minute, func() error {
					if testenv.One[int64](t, db, `SELECT count(*) FROM cipherfleet.jobs WHERE state = 'sweeping' AND pass > 0`) == 0 {
						return errors.New("the job does not sweep")
					}
					return nil
				})
				_, err := tx.Exec(t.Context(), leave)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if o := <-ended; o.code != 0 {
				t.Errorf("exit code %d: %s", o.code, o.err)
			}
			s.must("verify", "--table", "users")
		})
	}
}
