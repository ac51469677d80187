package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// DB is a database that belongs to one test and is dropped at its end. What the test itself says to it goes where its
// role's search path leads, as in an application's session; what is tested gets the [pg.DB], which is at home.
type DB struct {
	URL string // for other connections and other processes; superuser
	*pg.DB
	abroad *pg.DB
}

// Exec runs one statement, or several without parameters.
func (d *DB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return d.abroad.Exec(ctx, sql, args...)
}

// Query runs one statement and returns its rows; the caller closes them.
func (d *DB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return d.abroad.Query(ctx, sql, args...)
}

// QueryRow runs one statement for its first row.
func (d *DB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return d.abroad.QueryRow(ctx, sql, args...)
}

// Begin starts a transaction.
func (d *DB) Begin(ctx context.Context) (pg.Tx, error) { return d.abroad.Begin(ctx) }

// InTx runs f in a transaction and commits it; an error or a panic of f rolls back.
func (d *DB) InTx(ctx context.Context, f func(pg.Tx) error) error { return d.abroad.InTx(ctx, f) }

// Acquire takes one connection out of the pool until it is released.
func (d *DB) Acquire(ctx context.Context) (*pg.Conn, error) { return d.abroad.Acquire(ctx) }

// Database returns a database with schema cipherfleet installed.
func Database(t testing.TB) *DB {
	t.Helper()
	server, err := current.postgres()
	if err != nil {
		t.Fatal(err)
	}
	template, err := server.installed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return clone(t, server, template)
}

// EmptyDatabase returns a database without anything in it.
func EmptyDatabase(t testing.TB) *DB {
	t.Helper()
	server, err := current.postgres()
	if err != nil {
		t.Fatal(err)
	}
	return clone(t, server, "template0")
}

const cleanupTimeout = 2 * time.Minute

func clone(t testing.TB, s *server, template string) *DB {
	t.Helper()
	name, url, err := s.create(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := s.drop(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return Open(t, url)
}

// Open connects to the database at url and closes the connections at the end of the test.
func Open(t testing.TB, url string) *DB {
	t.Helper()
	d := &DB{URL: url}
	for at, abroad := range map[**pg.DB]bool{&d.DB: false, &d.abroad: true} {
		db, err := pg.Open(t.Context(), url, pg.Options{AppName: "cipherfleet-test", MaxConns: 10, Abroad: abroad})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeOrTell(t, db) })
		*at = db
	}
	return d
}

// closeOrTell closes the pool; a test that keeps a connection would make it wait for ever.
func closeOrTell(t testing.TB, db *pg.DB) {
	closed := make(chan struct{})
	go func() { db.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(cleanupTimeout):
		t.Error("the test ended with a connection or rows still open")
	}
}

// Run executes SQL, one or several statements without parameters, or one with; it fails the test on an error.
func (d *DB) Run(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := d.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// One returns the single value that a query yields; it fails the test on an error or when there is no row.
func One[T any](t testing.TB, q pg.Querier, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := q.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// Column returns the first value of every row that a query yields; it fails the test on an error.
func Column[T any](t testing.TB, q pg.Querier, sql string, args ...any) []T {
	t.Helper()
	rows, err := q.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var value T
		if err := rows.Scan(&value); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		all = append(all, value)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}
