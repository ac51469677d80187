package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// DB is a database that belongs to one test and is dropped at its end.
type DB struct {
	URL string // for other connections and other processes; superuser
	*pg.DB
}

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

const cleanupTimeout = 30 * time.Second

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
	db, err := pg.Open(t.Context(), url, pg.Options{AppName: "cipherfleet-test", MaxConns: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrTell(t, db) })
	return &DB{URL: url, DB: db}
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
