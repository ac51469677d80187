package pg_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// preparedSQL counts what stays prepared for the statement that it is part of.
const preparedSQL = `SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT $1::int8 + 1%'`

// addOne is a statement whose parameter comes as text of the type oid.
func addOne(n string, oid uint32, into *string) pg.Statement {
	s := pg.Statement{SQL: "SELECT $1::int8 + 1", Keep: true, Row: func(wire [][]byte) error {
		*into = string(wire[0])
		return nil
	}}
	s.Add([]byte(n), oid, 0)
	return s
}

func TestAKeptStatementStaysPrepared(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]int{"": 1, "&default_query_exec_mode=exec": 0} {
		db, err := pg.Open(t.Context(), testenv.Database(t).URL+mode, pg.Options{MaxConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		for range 2 { // the second acquisition finds what the first one left
			conn, err := db.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var first, second string
			if err := conn.Flight(t.Context(), addOne("1", 0, &first), addOne("2", 0, &second)); err != nil || first != "2" || second != "3" {
				t.Fatalf("%q: 1 + 1 is %q and 2 + 1 is %q, %v", mode, first, second, err)
			}
			if n := testenv.One[int](t, conn, preparedSQL); n != want {
				t.Errorf("%q: %d statements are prepared, want %d", mode, n, want)
			}
			conn.Release()
		}
	}
}

func TestAKeptStatementIsPreparedAgainWhenItsSessionForgotIt(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var sum string
	if err := conn.Flight(t.Context(), addOne("1", 0, &sum)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "DEALLOCATE cipherfleet_1"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flight(t.Context(), addOne("1", 0, &sum)); pg.Code(err) != "26000" {
		t.Fatalf("a statement that is gone: %v", err)
	}
	if err := conn.Flight(t.Context(), addOne("4", 0, &sum)); err != nil || sum != "5" {
		t.Errorf("4 + 1 is %q, %v", sum, err)
	}
}

func TestAKeptStatementIsNotReadAsAnotherType(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var sum string
	for i, oid := range []uint32{20, 21, 20} { // int8, int2
		if err := conn.Flight(t.Context(), addOne("7", oid, &sum)); err != nil || sum != "8" {
			t.Errorf("%d: 7 + 1 is %q, %v", i, sum, err)
		}
	}
}
