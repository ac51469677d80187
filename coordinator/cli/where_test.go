package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// An application moves rows in and out, and writes on both sides, while they are encrypted: at the end every row inside
// has its cell, no row outside was given one, and no cell is of another value.
func TestRowsMoveInAndOutOfAConditionWhileTheyAreEncrypted(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	const rows = 6000
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, tenant_id int, email text)`)
	db.Run(t, fmt.Sprintf(`INSERT INTO users SELECT i, i %% 3, 'user' || i FROM generate_series(1, %d) i`, rows))
	s := newShell(t, db.URL).withKey()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var wrote [2]int
	for w := range wrote {
		writers.Go(func() {
			for i := w; ctx.Err() == nil; i += 2 {
				id := 1 + i*7919%rows
				sql := []string{
					`UPDATE users SET tenant_id = (tenant_id + 1) % 3 WHERE id = ` + strconv.Itoa(id),
					`UPDATE users SET email = email || 'x' WHERE id = ` + strconv.Itoa(id),
					`UPDATE users SET email = email || 'y', tenant_id = (tenant_id + 2) % 3 WHERE id = ` + strconv.Itoa(id),
					fmt.Sprintf(`INSERT INTO users VALUES (%d, %d, 'new')`, rows+1+i, i%3),
					`DELETE FROM users WHERE id = ` + strconv.Itoa(id),
				}[i/2%5]
				if _, err := db.Exec(context.WithoutCancel(ctx), sql); err != nil {
					t.Error(err)
					return
				}
				wrote[w]++
			}
		})
	}
	s.must("backfill", "--table", "users", "--column", "email", "--prepare", "--chunk-rows", "50", "--where", "tenant_id = 1")
	s.must("backfill", "--table", "users", "--column", "email")
	cancel()
	writers.Wait()
	if wrote[0] == 0 || wrote[1] == 0 {
		t.Fatal("nobody wrote meanwhile")
	}
	lacking := testenv.One[int64](t, db, `SELECT count(*) FROM users WHERE tenant_id = 1 AND email_encrypted IS NULL`)
	column := parsed[status.Report](t, s.must("status", "--exact", "--json").out).Columns[0]
	outside := testenv.One[int64](t, db, `SELECT count(*) FROM users WHERE tenant_id <> 1 AND email_encrypted IS NULL`)
	if c := column.Coverage; c.Uncovered != lacking || c.Outside != outside || column.Missed == nil || *column.Missed < lacking {
		t.Errorf("status says %+v, %v missed; %d rows lack their cell, %d need none", c, column.Missed, lacking, outside)
	}
	s.must("backfill", "--table", "users", "--column", "email")
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE tenant_id = 1 AND email_encrypted IS NULL`); n != 0 {
		t.Errorf("%d rows lack their cell", n)
	}
	if n := testenv.One[int64](t, db, `SELECT count(*) FROM users WHERE tenant_id <> 1 AND email_encrypted IS NULL`); n != outside {
		t.Errorf("of %d rows that need no cell %d have none", outside, n)
	}
	if v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--json").out); !v.Proven || v.Columns[0].Stale != 0 {
		t.Errorf("verify says %+v", v)
	}
}

// In each partition, whose columns have other numbers, and under names and a collation of which nothing is to be taken for granted.
func TestAConditionOfPartitions(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, gone int, "Kind, $capture$ ""x""" text COLLATE "C", email text) PARTITION BY RANGE (id)`)
	db.Run(t, `ALTER TABLE users DROP COLUMN gone; CREATE TABLE users_1 PARTITION OF users FOR VALUES FROM (0) TO (500);
CREATE TABLE users_2 (email text, "Kind, $capture$ ""x""" text COLLATE "C", id int NOT NULL); ALTER TABLE users ATTACH PARTITION users_2 FOR VALUES FROM (500) TO (1000)`)
	db.Run(t, `INSERT INTO users SELECT i, CASE i % 4 WHEN 0 THEN 'gold' WHEN 1 THEN 'plain' WHEN 2 THEN 'silver' END, 'user' || i FROM generate_series(1, 999) i`)
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--prepare", "--where", `"Kind, $capture$ ""x""" IN ('gold', 'silver') AND length(email) > 0`)
	const wrong = `SELECT count(*) FROM users WHERE ("Kind, $capture$ ""x""" IN ('gold', 'silver')) IS TRUE <> (email_encrypted IS NOT NULL)`
	if n := testenv.One[int](t, db, wrong); n != 0 {
		t.Errorf("%d rows are on the wrong side", n)
	}
	db.Run(t, `UPDATE users SET "Kind, $capture$ ""x""" = 'gold' WHERE id IN (1, 3, 501, 503)`)
	column := parsed[status.Report](t, s.must("status", "--exact", "--json").out).Columns[0]
	if *column.Missed != 4 || column.Coverage.Uncovered != 4 || strings.Join(column.Flags, " ") != "uncovered" {
		t.Errorf("after four rows came in status says %+v, %d missed, flags %v", column.Coverage, *column.Missed, column.Flags)
	}
	s.must("backfill", "--table", "users", "--column", "email")
	if n := testenv.One[int](t, db, wrong); n != 0 {
		t.Errorf("%d rows are on the wrong side", n)
	}
	s.must("verify", "--table", "users")
}
