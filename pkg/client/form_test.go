package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestCellsInTextAndDocumentsAreMigratedReboundAndCopied as those in bytea are; each cell is one of its form at the end.
func TestCellsInTextAndDocumentsAreMigratedReboundAndCopied(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormText, cell.FormJSON} {
		t.Run(fmt.Sprint(form), func(t *testing.T) {
			t.Parallel()
			s := soldIn(t, form, 2)
			a := s.app(s.client(migrating))
			rows := pgx.CopyFromRows([][]any{{3, "user3@example.com"}, {4, nil}, {5, ""}})
			check(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
				n, err := a.users.Copy(t.Context(), tx, []string{"id", "email"}, rows)
				if err == nil && n != 3 {
					err = fmt.Errorf("%d rows", n)
				}
				return err
			}))
			s.activate(s.nextFor(a.c))
			check(t, a.c.Refresh(t.Context()))
			testenv.Eventually(t, patience, func() error {
				a.scan(s.pool, 1, 5)
				for _, id := range []int64{1, 2, 3, 5} {
					if s.scheme(id) != 2 {
						return fmt.Errorf("row %d is of the old scheme", id)
					}
				}
				return nil
			})
			check(t, a.c.Do(t.Context(), func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return a.users.Rebind(ctx, tx, client.Key{3}, client.Key{30}) })
			}))
			for id, want := range map[int64]string{1: "user1@example.com", 2: "user2@example.com", 30: "user3@example.com", 5: ""} {
				a.wants(id, want)
				if have := s.scheme(id); have != 2 {
					t.Errorf("row %d is of scheme %d", id, have)
				}
			}
			if have, err := a.read(4); err != nil || have != nil {
				t.Errorf("NULL is %v, %v", text(have), err)
			}
			if err := a.write(`UPDATE users SET id = 40 WHERE id = $1`, 1); err != nil {
				t.Fatal(err)
			}
			if _, err := a.read(40); !errors.Is(err, client.ErrAuth) {
				t.Errorf("without rebinding: %v", err)
			}
		})
	}
}

// firms is a shop whose cells are sealed for each firm, with four rows of two firms and of none, and its scheme.
func firms(t *testing.T) (*shop, cell.Scheme) {
	t.Helper()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, firm int, email text)`)
	s.register()
	s.dualWrite()
	s.backfill()
	s.cutOver("email_plaintext")
	s.drop()
	c := s.still()
	scheme := s.tenants(c)
	for id, firm := range map[int]any{1: 1, 2: 2, 3: 2, 4: nil} {
		must(s.pool.Exec(t.Context(), `INSERT INTO users (id, firm, {email ...}) VALUES ($1, $3, {email $2 key $1 tenant $3})`, s.users(c), id, fmt.Sprint("mail ", id), firm))(t)
	}
	check(t, c.Close(t.Context())) // it is none that anybody waits for
	return s, scheme
}

// tenants makes a scheme with a key for each firm the active one, which these clients have heard of.
func (s *shop) tenants(clients ...*client.Client) cell.Scheme {
	s.t.Helper()
	want := s.schemes["email"]
	want.Number, want.KeyID = 0, 0
	scheme := must(s.registrar().NewScheme(s.t.Context(), lifecycle.Definition{Scheme: want, Tenant: "firm"}))(s.t)
	for range 2 {
		for _, c := range clients {
			check(s.t, c.Refresh(s.t.Context()))
		}
		s.ready(scheme)
	}
	for _, c := range clients {
		check(s.t, c.Refresh(s.t.Context()))
	}
	return scheme
}

const keysSQL = `SELECT string_agg(d.scheme || ':' || coalesce(d.tenant, '-'), ' ' ORDER BY u.id) FROM users u LEFT JOIN cipherfleet.deks d ON d.id = ('x' || encode(substr(u.email, 13, 4), 'hex'))::bit(32)::bigint`

// TestReadingBringsRowsToTheKeysOfTheirTenants: from one key for all, and from the keys of an older scheme; back as well.
func TestReadingBringsRowsToTheKeysOfTheirTenants(t *testing.T) {
	t.Parallel()
	s, first := firms(t)
	a := s.app(s.client(migrating))
	reach := func(want string) {
		t.Helper()
		testenv.Eventually(t, patience, func() error {
			a.scan(s.pool, 1, 4)
			if have := testenv.One[string](t, s, keysSQL); have != want {
				return fmt.Errorf("the keys are %s, want %s", have, want)
			}
			return nil
		})
		for id := range int64(4) {
			a.wants(id+1, fmt.Sprint("mail ", id+1))
		}
	}
	reach("2:1 2:2 2:2 2:-")
	s.tenants(a.c)
	reach("3:1 3:2 3:2 3:-")
	s.activate(s.nextFor(a.c))
	check(t, a.c.Refresh(t.Context()))
	reach("4:- 4:- 4:- 4:-")
	s.tenants(a.c)
	reach("5:1 5:2 5:2 5:-")
	if first.Number != 2 {
		t.Errorf("the first scheme of firms was %d", first.Number)
	}
}

// TestNobodyMigratesWhatWasShredded: a client that has not heard of it yet still holds the key, and reads; what it reads
// comes under no key that lives on, neither that of all rows nor another of the tenant's.
func TestNobodyMigratesWhatWasShredded(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*shop, *client.Client){
		"to one key for all":   func(s *shop, c *client.Client) { s.activate(s.nextFor(c)) },
		"to the tenant's next": func(s *shop, c *client.Client) { s.tenants(c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, scheme := firms(t)
			a := s.app(s.still(migrating))
			next(s, a.c)
			check(t, a.c.Refresh(t.Context()))
			if n := s.shred(scheme.Column, "2"); n != 1 {
				t.Fatalf("%d keys were shredded", n)
			}
			a.wants(2, "mail 2") // it has the key still
			a.scan(s.pool, 1, 3) // one after the other: when the last one has come, all have been looked at
			testenv.Eventually(t, patience, func() error {
				a.scan(s.pool, 4, 4)
				if s.scheme(4) != 3 {
					return errors.New("row 4 is of the old scheme")
				}
				return nil
			})
			for _, id := range []int64{2, 3} {
				if s.scheme(id) != 2 {
					t.Errorf("row %d was brought under a key that lives on", id)
				}
			}
			if keys := testenv.One[int](t, s, `SELECT count(*) FROM cipherfleet.deks WHERE tenant = '2' AND wrapped IS NOT NULL`); keys != 0 {
				t.Errorf("the tenant has %d keys again", keys)
			}
		})
	}
}

// TestARowOfATenantIsRebound: under the key of the tenant that its row names, of none where it names none, and of the one
// that it moves to where the tenant is part of the key.
func TestARowOfATenantIsRebound(t *testing.T) {
	t.Parallel()
	s, scheme := firms(t)
	a := s.app(s.still())
	rebind := func(a app, from, to client.Key) error {
		return pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return a.users.Rebind(t.Context(), tx, from, to) })
	}
	keys := testenv.One[string](t, s, keysSQL)
	for id := range int64(4) {
		check(t, rebind(a, client.Key{id + 1}, client.Key{id + 101}))
		a.wants(id+101, fmt.Sprint("mail ", id+1))
	}
	if now := testenv.One[string](t, s, keysSQL); now != keys {
		t.Errorf("the keys were %s and are %s", keys, now)
	}
	s.Run(t, `UPDATE users SET firm = 3 WHERE id = 101`) // whose key there is not yet
	check(t, rebind(a, client.Key{101}, client.Key{1}))
	a.wants(1, "mail 1")
	if now := testenv.One[string](t, s, keysSQL); now != "2:3 2:2 2:2 2:-" {
		t.Errorf("the keys are %s", now)
	}
	s.shred(scheme.Column, "2")
	check(t, a.c.Refresh(t.Context()))
	if err := rebind(a, client.Key{102}, client.Key{2}); !errors.Is(err, client.ErrKeyDestroyed) {
		t.Errorf("of a tenant that was shredded: %v", err)
	}
}

// TestARowMovesToAnotherTenant where the tenant is part of its key.
func TestARowMovesToAnotherTenant(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (firm int, id bigint, email text, PRIMARY KEY (firm, id))`)
	s.register()
	s.dualWrite()
	a := s.app(s.still())
	s.tenants(a.c)
	must(s.pool.Exec(t.Context(), `INSERT INTO users (firm, id, {email ...}) VALUES ($1, $2, {email $3 key $1, $2 tenant $1})`, a.users, 1, 7, "mail"))(t)
	check(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		return a.users.Rebind(t.Context(), tx, client.Key{1, 7}, client.Key{2, 8})
	}))
	have := client.In[string](a.users[0], 2, 8)
	check(t, s.pool.QueryRow(t.Context(), `SELECT email_encrypted FROM users WHERE firm = 2 AND id = 8`).Scan(have))
	const tenantSQL = `SELECT d.tenant FROM users u JOIN cipherfleet.deks d ON d.id = ('x' || encode(substr(u.email_encrypted, 13, 4), 'hex'))::bit(32)::bigint`
	if tenant := testenv.One[string](t, s, tenantSQL); have.V != "mail" || tenant != "2" {
		t.Errorf("%q under the key of %s", have.V, tenant)
	}
}
