package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestCopySealsAsItStreams in every phase.
func TestCopySealsAsItStreams(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	for i, phase := range phases() {
		phase.move(s)
		a := s.app(s.still())
		const rows = 30
		first := int64(1000 * (i + 1))
		source := pgx.CopyFromSlice(rows, func(n int) ([]any, error) {
			email := any(fmt.Sprint("mail ", n))
			if n == 7 {
				email = nil
			}
			return []any{email, first + int64(n), "somebody"}, nil
		})
		check(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
			n, err := a.users.Copy(t.Context(), tx, []string{"email", "id", "name"}, source)
			if err == nil && n != rows {
				err = fmt.Errorf("%d rows", n)
			}
			return err
		}))
		a.wants(first+29, "mail 29")
		if have, err := a.read(first + 7); err != nil || have != nil {
			t.Errorf("NULL is read as %s, %v", text(have), err)
		}
		s.neverStale(phase.name)
		if i > 1 && s.column() != nil {
			if n := testenv.One[int](t, s, `SELECT count(*) FROM users WHERE id >= $1 AND id <> $2 AND `+pg.Ident(s.column().Target)+` IS NULL`, first, first+7); n > 0 {
				t.Errorf("%s: %d rows are uncovered", phase.name, n)
			}
		}
	}
	a := s.app(s.still())
	for what, names := range map[string][]string{"no key": {"email", "name"}, "too few": {"email", "id", "name", "ssn"}} {
		err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
			_, err := a.users.Copy(t.Context(), tx, names, pgx.CopyFromRows([][]any{{"x", 1}}))
			return err
		})
		if err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// TestBlocksOfKeys: rows have cells bound to keys that were drawn before they were there.
func TestBlocksOfKeys(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text)`)
	s.register()
	s.dualWrite()
	a := s.app(s.client())
	block := must(a.c.Block("public.users", "id", 10))(t)
	var mu sync.Mutex
	var drawn []int64
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 25 {
				id, err := block.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				err = a.write(`INSERT INTO users (id, {email ...}) OVERRIDING SYSTEM VALUE VALUES ($1, {email $2 key $1})`, id, fmt.Sprint("mail ", id))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				drawn = append(drawn, id)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(drawn)
	if distinct := slices.Compact(slices.Clone(drawn)); len(distinct) != 100 || drawn[99] != 100 {
		t.Errorf("%d keys up to %d", len(distinct), drawn[len(drawn)-1])
	}
	s.neverStale("dual-writing")
	if id := testenv.One[int64](t, s, `INSERT INTO users DEFAULT VALUES RETURNING id`); id != 101 {
		t.Errorf("the next key is %d", id)
	}
	if _, err := must(a.c.Block("public.users", "email", 10))(t).Next(t.Context()); err == nil {
		t.Error("a column without a sequence has keys")
	}
	if _, err := a.c.Block("public.users", "id", 0); err == nil {
		t.Error("a block of nothing")
	}
}

// TestRebind: a row whose key changes stays readable, and keeps its plaintext while there is one.
func TestRebind(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	a := s.app(s.still())
	a.mustWrite(insertSQL, 1, "mail 1")
	rebind := func(from, to int64) error {
		return a.c.Do(t.Context(), func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return a.users.Rebind(ctx, tx, client.Key{from}, client.Key{to}) })
		})
	}
	check(t, rebind(1, 2))
	s.neverStale("dual-writing")
	if testenv.One[bool](t, s, `SELECT email_encrypted IS NULL OR email IS NULL FROM users WHERE id = 2`) {
		t.Error("the row lost a value")
	}
	s.backfill()
	s.cutOver("email_plaintext")
	check(t, rebind(2, 3))
	a.wants(3, "mail 1")
	s.neverStale("cut-over")
	if testenv.One[bool](t, s, `SELECT email_plaintext IS NULL FROM users WHERE id = 3`) {
		t.Error("the plaintext did not stay")
	}
	s.drop()
	check(t, rebind(3, 4))
	a.wants(4, "mail 1")
	if err := rebind(3, 5); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("a row that is not there: %v", err)
	}
	check(t, a.write(`UPDATE users SET id = $2 WHERE id = $1`, 4, 5))
	if _, err := a.read(5); !errors.Is(err, client.ErrAuth) {
		t.Errorf("without rebinding: %v", err)
	}
	if err := rebind(5, 6); !errors.Is(err, client.ErrAuth) {
		t.Errorf("what does not open is not bound to another row: %v", err)
	}
	s.source = "ssn"
	s.register()
	check(t, a.c.Refresh(t.Context()))
	a.mustWrite(insertSQL, 8, "mail 8")
	if err := rebind(8, 9); err == nil || !strings.Contains(err.Error(), "ssn") {
		t.Errorf("a row is rebound with one of its two encrypted columns: %v", err)
	}
}
