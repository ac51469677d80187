package ladder

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestCoverageIsAskedWithoutAScan: however many rows there are, and whatever statistics say of them.
func TestCoverageIsAskedWithoutAScan(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text, sealed bytea) PARTITION BY RANGE (id);
		CREATE TABLE low PARTITION OF users FOR VALUES FROM (0) TO (1000)`)
	db.Run(t, `INSERT INTO users SELECT g, 'a', 'a' FROM generate_series(0, 999) g`)
	c := ddl.Column{ID: 1, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "sealed", Key: []string{"id"}}
	look := func() (err error) {
		relation, err := pg.Inspect(ctx, db, "public", "users")
		if err != nil {
			t.Fatal(err)
		}
		inTx := db.InTx(ctx, func(tx pg.Tx) error {
			const scansSQL = `SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables WHERE relname IN ('low', 'high', 'users')`
			before := testenv.One[int](t, tx, scansSQL) // also of transactions of before that were not added up yet
			err = covered(ctx, tx, c, relation.Leaves)
			if n := testenv.One[int](t, tx, scansSQL) - before; n > 0 {
				t.Errorf("%d scans", n)
			}
			return nil
		})
		return errors.Join(err, inTx)
	}
	index := func() {
		relation, err := pg.Inspect(ctx, db, "public", "users")
		if err == nil {
			err = indexUncovered(ctx, db.DB, c, relation.Leaves)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := look(); !errors.Is(err, errUnindexed) {
		t.Errorf("without an index: %v", err)
	}
	index()
	if err := look(); err != nil {
		t.Errorf("all is covered: %v", err)
	}
	db.Run(t, `CREATE TABLE high PARTITION OF users FOR VALUES FROM (1000) TO (2000)`)
	if err := look(); !errors.Is(err, errUnindexed) {
		t.Errorf("a new partition: %v", err)
	}
	index()
	for _, row := range []string{`(1500, 'a', NULL)`, `(1500, NULL, 'a')`} {
		db.Run(t, `INSERT INTO users VALUES `+row)
		if err := look(); !errors.Is(err, errUncovered) {
			t.Errorf("with %s: %v", row, err)
		}
		db.Run(t, `DELETE FROM users WHERE id = 1500`)
	}
}
