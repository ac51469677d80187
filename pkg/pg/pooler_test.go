package pg_test

import (
	"context"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// Behind a pooler that hands each transaction another session, nothing may stay prepared: it would be there for somebody
// else, and not for us.
func TestAPoolerIsNoticed(t *testing.T) {
	t.Parallel()
	direct := testenv.EmptyDatabase(t)
	url := testenv.Pooler(t, direct.URL, 2)
	for _, c := range []struct {
		url           string
		pooled, works bool
	}{
		{direct.URL, false, true},
		{url, true, true},
		{url + "&default_query_exec_mode=exec", true, true},
		{url + "&default_query_exec_mode=cache_statement", true, false},
	} {
		db, err := pg.Open(t.Context(), c.url, pg.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		if db.Pooled() != c.pooled {
			t.Errorf("a pooler: %v, want %v", db.Pooled(), c.pooled)
		}
		if err := twoAtOnce(t, db); (err == nil) != c.works {
			t.Errorf("pooled %v: %v", c.pooled, err)
		}
	}
}

// The stand-in has as many sessions as ever when somebody has left one in the middle of a transaction.
func TestAPoolerHasAnotherSessionForOneThatWasLeft(t *testing.T) {
	t.Parallel()
	db, err := pg.Open(t.Context(), testenv.Pooler(t, testenv.EmptyDatabase(t).URL, 1), pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn.Discard(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := db.Ping(ctx); err != nil {
		t.Errorf("nobody has a session any more: %v", err)
	}
}

// twoAtOnce asks the same of two connections, and again.
func twoAtOnce(t *testing.T, db *pg.DB) error {
	t.Helper()
	var conns []*pg.Conn
	for range 2 {
		conn, err := db.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		conns = append(conns, conn)
	}
	for range 2 {
		for _, conn := range conns {
			var sum int
			if err := conn.QueryRow(t.Context(), "SELECT $1::int4 + 1", 1).Scan(&sum); err != nil {
				return err
			}
			var text string
			if err := conn.Flight(t.Context(), addOne("1", 0, &text)); err != nil {
				return err
			}
		}
	}
	return nil
}
