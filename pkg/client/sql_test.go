package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestDatabaseSQL is the whole life of a column in an application of database/sql: the same statements, and a cell to
// scan into.
func TestDatabaseSQL(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	db := stdlib.OpenDB(*must(pgx.ParseConfig(s.URL))(t))
	defer db.Close() //nolint:errcheck // the test is over
	for i, phase := range phases() {
		phase.move(s)
		c := must(client.OpenSQL(t.Context(), db, client.Config{KEK: s.kek}))(t)
		email := must(c.Column(t.Context(), "public.users", "email"))(t)
		for n, want := range []*string{new(string), nil} {
			id := int64(10*(i+1) + n)
			if want != nil {
				*want = fmt.Sprint("mail ", id)
			}
			if _, err := db.ExecContext(t.Context(), insertSQL, email, id, want); err != nil {
				t.Fatalf("%s: %v", phase.name, err)
			}
			var key int64
			have := client.In[string](email, &key)
			if err := db.QueryRowContext(t.Context(), selectSQL, email, id).Scan(&key, have); err != nil {
				t.Fatalf("%s: %v", phase.name, err)
			}
			if have.Valid != (want != nil) || want != nil && have.V != *want {
				t.Errorf("%s: %+v, want %v", phase.name, have, want)
			}
		}
		check(t, c.Close(t.Context()))
	}
}

// TestTimesAreRoundedAsPostgresRoundsThem and not cut, in the plaintext and in the cell.
func TestTimesAreRoundedAsPostgresRoundsThem(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email timestamptz)`)
	s.register()
	s.dualWrite()
	a := s.app(s.still())
	for id, nanos := range []int{123456789, 123456400, 999999999} {
		at := time.Date(2024, 2, 3, 4, 5, 6, nanos, time.UTC)
		for n, v := range []any{at, &at, pgtype.Timestamptz{Time: at, Valid: true}, client.In[time.Time](a.users[0], 10*id+3).Set(at)} {
			a.mustWrite(insertOne, 10*id+n, v)
			want := testenv.One[time.Time](t, s, `SELECT $1::text::timestamptz`, at.Format(time.RFC3339Nano))
			have := client.In[time.Time](a.users[0], 10*id+n)
			var plain time.Time
			check(t, s.pool.QueryRow(t.Context(), `SELECT email, email_encrypted FROM users WHERE id = $1`, 10*id+n).Scan(&plain, have))
			if !plain.Equal(want) || !have.V.Equal(want) {
				t.Errorf("%v: plaintext %v, cell %v, want %v", at, plain, have.V, want)
			}
		}
	}
}

// TestACellIsAnArgument of statements that name the column of cells, in pgx and in database/sql.
func TestACellIsAnArgument(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email timestamptz)`)
	db := stdlib.OpenDB(*must(pgx.ParseConfig(s.URL))(t))
	defer db.Close() //nolint:errcheck // the test is over
	s.register()
	c := s.still()
	email := s.users(c)[0]
	at := time.Date(2024, 2, 3, 4, 5, 6, 789012345, time.UTC)
	if _, err := client.In[time.Time](email, 1).Set(at).BytesValue(); !errors.Is(err, client.ErrNoScheme) {
		t.Errorf("before there is a key: %v", err)
	}
	s.dualWrite()
	check(t, c.Refresh(t.Context()))
	if _, err := s.pool.Exec(t.Context(), `INSERT INTO users (id, email) VALUES (9, $1)`, client.In[time.Time](email, 9).Set(at)); err == nil {
		t.Error("a cell went into the column of plaintext")
	}
	if _, err := s.pool.Exec(t.Context(), insertOne, email, 8, client.In[time.Time](email, 8).Set(at)); err != nil {
		t.Errorf("with placeholders a cell is its value: %v", err)
	}
	s.run(append(s.column().Capture().Undo, `ALTER TABLE users DROP COLUMN email`, `ALTER TABLE users RENAME email_encrypted TO email`))
	check(t, c.Refresh(t.Context()))
	const insert, read = `INSERT INTO users (id, email) VALUES ($1, $2)`, `SELECT id, email FROM users WHERE id = $1`
	for id, value := range []*client.Cell[time.Time]{client.In[time.Time](email, 0).Set(at), client.In[time.Time](email, 1)} {
		if _, err := s.pool.Exec(t.Context(), insert, id, value); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), insert, id+2, value); err != nil { // sealed for row 0, stored in row 2
			t.Fatal(err)
		}
		var key int64
		have := client.In[time.Time](email, &key)
		check(t, s.pool.QueryRow(t.Context(), read, id).Scan(&key, have))
		if have.Valid != (id == 0) || have.Valid && !have.V.Equal(at.Round(time.Microsecond)) {
			t.Errorf("row %d: %+v", id, have)
		}
		have = client.In[time.Time](email, &key)
		check(t, db.QueryRowContext(t.Context(), read, id).Scan(&key, have))
		if have.Valid != (id == 0) || have.Valid && !have.V.Equal(at.Round(time.Microsecond)) {
			t.Errorf("row %d by database/sql: %+v", id, have)
		}
	}
	moved := client.In[time.Time](email, 2)
	if err := s.pool.QueryRow(t.Context(), `SELECT email FROM users WHERE id = 2`).Scan(moved); !errors.Is(err, client.ErrAuth) {
		t.Errorf("a cell of another row: %v", err)
	}
	if err := moved.Scan([]byte("2024-02-03")); !errors.Is(err, cell.ErrNotACell) {
		t.Errorf("plaintext where no column has any: %v", err)
	}
	var loose client.Cell[string]
	if _, err := loose.Set("x").Value(); err == nil {
		t.Error("a cell of no column seals")
	}
	if err := client.In[int](email, 0).Scan(testenv.One[[]byte](t, s, `SELECT email FROM users WHERE id = 0`)); !errors.Is(err, client.ErrValue) {
		t.Errorf("a time into an int: %v", err)
	}
	if err := new(client.Cell[int]).Scan("x"); !errors.Is(err, client.ErrValue) {
		t.Errorf("a text into an int: %v", err)
	}
}
