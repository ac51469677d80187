package index_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestNobodyIsMadeADeadlocksVictim: whoever locks all partitions waits for the locks of all of them together for less
// time than after which the application, which waits for one of them and has another, looks for a deadlock.
func TestNobodyIsMadeADeadlocksVictim(t *testing.T) {
	t.Parallel()
	joined := func(o *office) { // all but joined
		for _, sql := range o.planBuild(0).Statements[:4] {
			o.Run(t, sql)
		}
	}
	build := func(o *office) error { _, err := o.r.Build(t.Context(), o.planBuild(0), false); return err }
	for what, c := range map[string]struct {
		before func(*office)
		verb   func(*office) error
	}{
		"joined":   {joined, build},
		"unjoined": {func(o *office) { joined(o); o.Run(t, `CREATE INDEX cipherfleet_token_1_index ON ONLY users (bidx)`) }, build},
		"made": {func(*office) {}, func(o *office) error {
			w := parts()
			w.Name = "another"
			p, err := o.r.PlanNew(t.Context(), o.name, w)
			check(t, err)
			_, err = o.r.New(t.Context(), p)
			return err
		}},
		"dropped": {func(*office) {}, func(o *office) error { _, err := o.r.Drop(t.Context(), o.planDrop(0), time.Minute); return err }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := parted(t)
			c.before(o)
			slow, writer := o.writes("mid_0"), o.writes("mid_1")
			done, wrote := make(chan error, 1), make(chan error, 1)
			go func() { done <- c.verb(o) }()
			o.waits("mid_0", "0 s", done)
			go func() {
				_, err := writer.Exec(t.Context(), `UPDATE "Other, one"."Low $1" SET note = 'x' WHERE id = 1`)
				wrote <- err
			}()
			o.waits(`"Other, one"."Low $1"`, "0.8 s", wrote)
			check(t, slow.Rollback(t.Context()))
			if err := <-wrote; err != nil {
				t.Errorf("the application's write: %v", err)
			}
			check(t, writer.Rollback(t.Context()))
			check(t, <-done)
		})
	}
}

// writes is a transaction that has written a table.
func (o *office) writes(table string) pg.Tx {
	o.t.Helper()
	tx, err := o.Begin(o.t.Context())
	check(o.t, err)
	o.t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(o.t.Context())) })
	_, err = tx.Exec(o.t.Context(), `LOCK TABLE `+table+` IN ROW EXCLUSIVE MODE`)
	check(o.t, err)
	return tx
}

// waits until somebody has waited so long for a lock of the table, or it has ended.
func (o *office) waits(table, long string, ended chan error) {
	o.t.Helper()
	const waitsSQL = `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass AND waitstart <= clock_timestamp() - $2::text::interval)`
	testenv.Eventually(o.t, time.Minute, func() error {
		if len(ended) == 0 && !testenv.One[bool](o.t, o, waitsSQL, table, long) {
			return errors.New("nobody waits")
		}
		return nil
	})
}
