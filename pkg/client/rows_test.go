package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// sold is a shop whose e-mails are cells and nothing else, with rows 1 to n.
func sold(t testing.TB, n int) *shop {
	t.Helper()
	return soldIn(t, cell.FormBytes, n)
}

// soldIn is the same with cells in another form.
func soldIn(t testing.TB, form cell.Form, n int) *shop {
	t.Helper()
	s := open(t, usersSQL)
	s.form, s.target = form, map[cell.Form]string{cell.FormText: "text", cell.FormJSON: "jsonb"}[form]
	return s.sell(n)
}

// sell brings the shop's column, with n rows, to where its plaintext is dropped.
func (s *shop) sell(n int) *shop {
	s.t.Helper()
	s.Run(s.t, fmt.Sprintf(`INSERT INTO users (id, name, email) SELECT i, 'name ' || i, 'user' || i || '@example.com' FROM generate_series(1, %d) i`, n))
	s.register()
	s.dualWrite()
	s.backfill()
	s.cutOver("email_plaintext")
	s.drop()
	return s
}

type user struct {
	ID    int64
	Name  string
	Email *string
}

func TestRowsOfAnyShapeOpen(t *testing.T) {
	t.Parallel()
	s := sold(t, 20)
	a := s.app(s.client())
	rows := must(a.users.Query(t.Context(), s.pool, `SELECT name, {email}, id FROM users ORDER BY id`))(t)
	all := must(pgx.CollectRows(rows, pgx.RowToStructByName[user]))(t)
	for i, u := range all {
		if want := fmt.Sprintf("user%d@example.com", i+1); u.ID != int64(i+1) || u.Email == nil || *u.Email != want {
			t.Errorf("%+v, want %s", u, want)
		}
	}
	if len(all) != 20 {
		t.Errorf("%d rows", len(all))
	}

	// A scanner serves every row, and the query after it.
	var id int64
	var email string
	scanner := a.users.Row(&id, &email)
	for _, sql := range []string{`SELECT id, {email} FROM users WHERE id > $1 ORDER BY id`, `SELECT id AS email, {email} AS id FROM users WHERE id > $1`} {
		rows := must(s.pool.Query(t.Context(), sql, a.users, 15))(t)
		count := 0
		for ; rows.Next(); count++ {
			check(t, rows.Scan(scanner))
			if email != fmt.Sprintf("user%d@example.com", id) {
				t.Errorf("row %d reads %s", id, email)
			}
		}
		if check(t, rows.Err()); count != 5 {
			t.Errorf("%d rows", count)
		}
	}

	// Joined with itself, each cell has the key that stands before it.
	var other int64
	var first, second string
	check(t, s.pool.QueryRow(t.Context(), `SELECT a.id, a.{email}, b.id, b.{email} FROM users a JOIN users b ON b.id = a.id + 1 WHERE a.id = 7`, a.users).
		Scan(a.users.Row(&id, &first, &other, &second)))
	if first != "user7@example.com" || second != "user8@example.com" {
		t.Errorf("%s and %s", first, second)
	}

	// Two tables may have columns of one name.
	s.Run(t, `CREATE TABLE orders (id bigint PRIMARY KEY, email text); INSERT INTO orders VALUES (7, 'ordered')`)
	both := client.Columns{a.users[0], must(a.c.Column(t.Context(), "public.orders", "email"))(t).As("ordered by")}
	check(t, s.pool.QueryRow(t.Context(), `SELECT u.id, u.{email}, o.{ordered by} FROM users u JOIN orders o USING (id)`, both).Scan(both.Row(&id, &first, &second)))
	if first != "user7@example.com" || second != "ordered" {
		t.Errorf("%s and %s", first, second)
	}

	// Of a view, and out of an expression, a cell tells by itself what it is.
	s.Run(t, `CREATE VIEW people AS SELECT id, email FROM users`)
	check(t, s.pool.QueryRow(t.Context(), `SELECT id, email FROM people WHERE id = 3`).Scan(a.users.Row(&id, &email)))
	if email != "user3@example.com" {
		t.Errorf("the view reads %s", email)
	}
	check(t, s.pool.QueryRow(t.Context(), `WITH x AS MATERIALIZED (SELECT id, email || '' AS mail FROM users WHERE id = 4) SELECT id, mail FROM x`).Scan(a.users.Row(&id, &email)))
	if email != "user4@example.com" {
		t.Errorf("the expression reads %s", email)
	}
	// and in a protocol without formats
	check(t, s.pool.QueryRow(t.Context(), `SELECT id, {email} FROM users WHERE id = $1`, pgx.QueryExecModeSimpleProtocol, a.users, 5).Scan(a.users.Row(&id, &email)))
	if email != "user5@example.com" {
		t.Errorf("the simple protocol reads %s", email)
	}
}

func TestARowThatCannotBeOpenedSaysWhy(t *testing.T) {
	t.Parallel()
	s := sold(t, 3)
	a := s.app(s.client())
	var name, email string
	err := s.pool.QueryRow(t.Context(), `SELECT name, {email} FROM users WHERE id = 1`, a.users).Scan(a.users.Row(&name, &email))
	if !errors.Is(err, client.ErrNoKey) {
		t.Errorf("without its key: %v", err)
	}
	s.Run(t, `UPDATE users SET email = (SELECT u.email FROM users u WHERE u.id = 2) WHERE id = 1`)
	email = "untouched"
	err = s.pool.QueryRow(t.Context(), `SELECT id, {email}, name FROM users WHERE id = 1`, a.users).Scan(a.users.Row(new(int64), &email, &name))
	var which *client.CellError
	if !errors.Is(err, client.ErrAuth) || !errors.As(err, &which) || which.Column != "email" || email != "untouched" || name != "name 1" {
		t.Errorf("a cell of another row: %v, %q beside %q", err, email, name)
	}
	var number int
	err = s.pool.QueryRow(t.Context(), `SELECT id, {email} FROM users WHERE id = 3`, a.users).Scan(a.users.Row(new(int64), &number))
	if !errors.Is(err, client.ErrValue) {
		t.Errorf("a text into an int: %v", err)
	}
	// A view of rows as they come goes on after a row that does not open.
	rows := must(a.users.Query(t.Context(), s.pool, `SELECT id, {email} FROM users ORDER BY id`))(t)
	defer rows.Close()
	failed, opened := 0, 0
	for rows.Next() {
		if rows.Scan(new(int64), &email) != nil {
			failed++
		} else {
			opened++
		}
	}
	if check(t, rows.Err()); failed != 1 || opened != 2 {
		t.Errorf("%d rows failed, %d opened", failed, opened)
	}
}

// TestKeysOfEveryKind seals by an application's value of the key, and opens by what comes over the wire.
func TestKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	day := time.Date(2024, 2, 3, 0, 0, 0, 0, time.UTC)
	for sql, values := range map[string][]any{
		"int2": {7}, "int4": {int32(-7), "8"}, "int8": {int64(1) << 40}, "text": {"a key", ""}, "varchar(9)": {"ä"}, "char(5)": {"ab"}, "citext": {"MiXed"},
		"uuid": {uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), "7ba7b810-9dad-11d1-80b4-00c04fd430c8"}, "bytea": {[]byte{0, 1}},
		"date": {day}, "timestamp": {day.Add(123456789)}, "timestamptz": {day.Add(-time.Microsecond)}, "numeric": {"1.50", "-3", 7}, "numeric(9,3)": {"2.5"},
		"mood": {"ok"}, "bool": {true, "false"},
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			s := open(t, `CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE users (part int, id `+sql+`, email text, PRIMARY KEY (id, part))`)
			s.register()
			s.dualWrite()
			a := s.app(s.client())
			for i, v := range values {
				for part := range 2 {
					want := fmt.Sprintf("mail %d of %d", i, part)
					a.mustWrite(`INSERT INTO users (part, id, {email ...}) VALUES ($3, $1, {email $2 key $1, $3})`, v, want, part)
				}
			}
			s.run(s.swap("email_plaintext").Step().Do)
			s.column().Source, s.column().Target = "email_plaintext", "email"
			s.run(append(s.column().ReverseCapture().Undo, `ALTER TABLE users DROP COLUMN email_plaintext`))
			check(t, a.c.Refresh(t.Context()))
			for i, v := range values {
				for part := range 2 {
					for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
						var email string
						err := s.pool.QueryRow(t.Context(), `SELECT part, id, {email} FROM users WHERE id = $1 AND part = $2`, mode, a.users, v, part).
							Scan(a.users.Row(nil, nil, &email))
						if want := fmt.Sprintf("mail %d of %d", i, part); err != nil || email != want {
							t.Errorf("%v: %q, %v, want %q", v, email, err, want)
						}
					}
				}
			}
		})
	}
}

// TestPartitionedTables are known by their root.
func TestPartitionedTables(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF users FOR VALUES FROM (0) TO (100); CREATE TABLE high (email text, id bigint NOT NULL);
ALTER TABLE users ATTACH PARTITION high FOR VALUES FROM (100) TO (1000)`)
	s.register()
	s.dualWrite()
	a := s.app(s.still()) // Postgres drops the triggers of partitions in another order than whoever looks at them locks them
	a.mustWrite(insertOne, 1, "low")
	a.mustWrite(insertOne, 101, "high")
	s.run(append(s.column().Capture().Undo, `ALTER TABLE users DROP COLUMN email`, `ALTER TABLE users RENAME email_encrypted TO email`))
	check(t, a.c.Refresh(t.Context()))
	a.wants(1, "low")
	a.wants(101, "high")
	var email string
	check(t, s.pool.QueryRow(t.Context(), `SELECT email, id FROM high`).Scan(a.users.Row(&email, nil)))
	if email != "high" {
		t.Errorf("the partition itself reads %q", email)
	}
}

// TestACellIsNoValue: who passes a cell of this very place is stopped; text that only looks like one is data.
func TestACellIsNoValue(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email bytea)`)
	s.register()
	s.dualWrite()
	a := s.app(s.client())
	a.mustWrite(insertOne, 1, []byte("value"))
	sealed := testenv.One[[]byte](t, s, `SELECT email_encrypted FROM users WHERE id = 1`)
	if err := a.write(updateSQL, 1, sealed); !errors.Is(err, client.ErrAlreadySealed) {
		t.Errorf("a cell is sealed again: %v", err)
	}
	if err := a.write(updateSQL, 1, fmt.Appendf(nil, `\x%x`, sealed)); !errors.Is(err, client.ErrAlreadySealed) {
		t.Errorf("a cell in hexadecimal is sealed again: %v", err)
	}
	a.mustWrite(insertOne, 2, sealed) // it opens in row 1 alone: here it is data
	sealed[len(sealed)-1] ^= 1
	a.mustWrite(updateSQL, 1, sealed)
	var have []byte
	check(t, s.pool.QueryRow(t.Context(), selectSQL, a.users, 1).Scan(a.users.Row(nil, &have)))
	if string(have) != string(sealed) {
		t.Error("what looks like a cell did not come back")
	}
	prefix := cell.Prefix(s.column().ID)
	a.mustWrite(updateSQL, 1, prefix[:])
}
