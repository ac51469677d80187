package scheme_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/blind"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// firm is an office whose third scheme has a key for each tenant, and somebody who holds them and hears of nothing.
type firm struct {
	*office
	scheme cell.Scheme
	behind *lifecycle.Keychain
}

func openFirm(t *testing.T) *firm {
	t.Helper()
	o := open(t)
	o.Run(t, `ALTER TABLE users ADD firm int; UPDATE users SET firm = id % 2`)
	for _, sql := range o.column.Check().Do {
		o.Run(t, sql)
	}
	p, err := o.r.PlanNew(t.Context(), o.name, scheme.Wanted{Tenant: new("firm")})
	check(t, err)
	made, err := o.r.New(t.Context(), p)
	check(t, err)
	o.activate(made.Number)
	f := &firm{office: o}
	f.behind, err = lifecycle.OpenKeychain(t.Context(), o.DB.DB, o.r.KEK, lifecycle.KeychainConfig{})
	check(t, err)
	f.scheme, _ = f.behind.Active(o.column.ID)
	for id := range 10 {
		check(t, f.insert(t.Context(), o, 100+id, fmt.Sprint(id%2)))
	}
	return f
}

// sealed is a cell of a tenant, by whoever is behind.
func (f *firm) sealed(id int, tenant string) []byte {
	f.t.Helper()
	s, err := f.behind.TenantKey(f.t.Context(), f.DB.DB, f.scheme, tenant)
	check(f.t, err)
	key := cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), int64(id))
	stored, err := f.behind.Keyring().Seal(nil, s, cell.Address{Column: f.column.ID, Key: key}, []byte("x"))
	check(f.t, err)
	return stored
}

func (f *firm) insert(ctx context.Context, q pg.Querier, id int, tenant string) error {
	_, err := q.Exec(ctx, `INSERT INTO users (id, email, firm, sealed) VALUES ($1, 'x', $2::text::int, $3)`, id, tenant, f.sealed(id, tenant))
	return err
}

func (f *firm) shred(tenant string, patience time.Duration) (scheme.Shredding, error) {
	f.t.Helper()
	p, err := f.r.PlanShred(f.t.Context(), f.name, tenant, false)
	check(f.t, err)
	return f.r.Shred(f.t.Context(), p, patience)
}

// What was sealed before a tenant was shredded is committed before the keys are deleted, or not at all.
func TestNoCellComesUnderAShreddedKey(t *testing.T) {
	t.Parallel()
	f := openFirm(t)
	writing, err := f.Begin(t.Context())
	check(t, err)
	defer writing.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it is committed
	if _, err := writing.Exec(t.Context(), `INSERT INTO users (id, email, firm, sealed) VALUES (200, 'x', 1, $1)`, f.sealed(200, "1")); err != nil {
		t.Fatal(err)
	}
	later := f.sealed(201, "1")
	done := make(chan error, 1)
	go func() {
		_, err := f.shred("1", 0)
		done <- err
	}()
	testenv.Eventually(t, time.Minute, func() error {
		if n := testenv.One[int](t, f, `SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted`); n == 0 {
			return errors.New("nobody waits for who writes")
		}
		return nil
	})
	if n := testenv.One[int](t, f, `SELECT count(*) FROM cipherfleet.deks WHERE wrapped IS NULL`); n != 0 {
		t.Error("the key is deleted while somebody writes with it")
	}
	check(t, writing.Commit(t.Context()))
	check(t, <-done)
	if _, err := f.Exec(t.Context(), `INSERT INTO users (id, firm, sealed) VALUES (201, 1, $1)`, later); pg.Code(err) != "23514" {
		t.Errorf("a cell that was sealed before: %v", err)
	}
	check(t, f.insert(t.Context(), f, 202, "0"))
	f.Run(t, `UPDATE users SET email = 'y'`) // of rows that have such a cell, too
	if n := testenv.One[int](t, f, `SELECT count(*) FROM users WHERE `+ddl.Under("sealed", cell.FormBytes, []uint32{f.key("1")})); n != 6 {
		t.Errorf("%d cells are under the key", n)
	}
	if n := testenv.One[int](t, f, `SELECT count(*) FROM cipherfleet.events WHERE details->>'what' = 'tenant shredded' AND details->>'key' = $1::text AND actor = 'ada'`, fmt.Sprint(f.key("1"))); n != 1 {
		t.Errorf("%d events", n)
	}
	again, err := f.shred("1", 0)
	check(t, err)
	if again.Keys != 0 || again.Cleared != 0 {
		t.Errorf("again it did %+v", again)
	}
	_, err = f.shred("0", 0) // both are refused then
	check(t, err)
	for tenant, id := range map[string]int{"0": 204, "1": 203} {
		if _, err := f.Exec(t.Context(), `INSERT INTO users (id, firm, sealed) VALUES ($1, 1, $2)`, id, f.sealed(id, tenant)); pg.Code(err) != "23514" {
			t.Errorf("tenant %s: %v", tenant, err)
		}
	}
}

// A key that the tenant was given after the shredding was planned is deleted with the others, and is kept out like them.
func TestAKeyThatCameAfterThePlanIsShreddedToo(t *testing.T) {
	t.Parallel()
	f := openFirm(t)
	p, err := f.r.PlanShred(t.Context(), f.name, "1", false)
	check(t, err)
	next, err := f.r.PlanNew(t.Context(), f.name, scheme.Wanted{Tenant: new("firm"), Padding: new(64)})
	check(t, err)
	made, err := f.r.New(t.Context(), next)
	check(t, err)
	f.activate(made.Number)
	check(t, f.behind.Refresh(t.Context()))
	f.scheme, _ = f.behind.Active(f.column.ID)
	check(t, f.insert(t.Context(), f, 300, "1"))
	later := f.sealed(301, "1")
	done, err := f.r.Shred(t.Context(), p, 0)
	check(t, err)
	if done.Keys != 2 {
		t.Errorf("%d keys are deleted", done.Keys)
	}
	if _, err := f.Exec(t.Context(), `INSERT INTO users (id, firm, sealed) VALUES (301, 1, $1)`, later); pg.Code(err) != "23514" {
		t.Errorf("a cell under the later key: %v", err)
	}
}

func (f *firm) key(tenant string) uint32 {
	f.t.Helper()
	return testenv.One[uint32](f.t, f, `SELECT id FROM cipherfleet.deks WHERE tenant = $1`, tenant)
}

// Whoever is there and may still hold the key is waited for, and named; the keys are deleted all the same.
func TestAShreddingWaitsForWhoHoldsTheKey(t *testing.T) {
	t.Parallel()
	f := openFirm(t)
	lease := lifecycle.Lease{ID: "late", Kind: lifecycle.LeaseClient, Revision: f.behind.Revision(), For: time.Hour}
	check(t, lifecycle.Present(t.Context(), f, lease))
	done, err := f.shred("1", 0)
	var late *lifecycle.NotReadyError
	if !errors.As(err, &late) || len(late.Waiting) != 1 || late.Waiting[0] != "late" || done.Keys != 1 {
		t.Errorf("%d keys, %v", done.Keys, err)
	}
	if _, err := f.shred("1", 0); !errors.As(err, &late) {
		t.Errorf("again: %v", err)
	}
	check(t, f.behind.Refresh(t.Context()))
	lease.Revision = f.behind.Revision()
	check(t, lifecycle.Present(t.Context(), f, lease))
	_, err = f.shred("1", 0)
	check(t, err)
}

// index is a blind index of the column, being filled.
func (f *firm) index() ddl.Token {
	f.t.Helper()
	r := blind.Registrar{Registrar: lifecycle.Registrar{DB: f.DB.DB, KEK: f.r.KEK}}
	made, err := r.Prepare(f.t.Context(), lifecycle.IndexDefinition{Column: f.column.ID, Name: "bidx", Generation: 1, Token: "bidx", Normaliser: cell.NormaliseExact, Bytes: cell.BlindSize})
	check(f.t, err)
	x := ddl.Token{Index: made.ID, Table: f.column.Table, Cell: "sealed", Name: "bidx", Bytes: cell.BlindSize, Key: []string{"id"}}
	check(f.t, f.InTx(f.t.Context(), func(tx pg.Tx) error {
		for _, sql := range append(x.Add().Do, x.Capture().Do...) {
			if _, err := tx.Exec(f.t.Context(), sql); err != nil {
				return err
			}
		}
		return r.Move(f.t.Context(), tx, made.ID, lifecycle.IndexFilling)
	}))
	return x
}

// The tokens of a tenant's values go with the keys, others stay, a row that somebody holds is waited for without holding
// anybody up, and one that moves meanwhile is found.
func TestTokensGoWithTheKeys(t *testing.T) {
	t.Parallel()
	f := openFirm(t)
	x := f.index()
	f.Run(t, `INSERT INTO users (id, firm, sealed) SELECT i, 1, $1 FROM generate_series(1000, 9000) i`, f.sealed(1000, "1"))
	for _, sql := range x.Capture().Undo {
		f.Run(t, sql)
	}
	f.Run(t, `UPDATE users SET bidx = substr(sha256(id::text::bytea), 1, 16) WHERE firm IS NOT NULL AND id >= 100`)
	for _, sql := range x.Capture().Do {
		f.Run(t, sql)
	}
	holding, err := f.Begin(t.Context())
	check(t, err)
	defer holding.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it is committed
	done := make(chan scheme.Shredding, 1)
	p, err := f.r.PlanShred(t.Context(), f.name, "1", false)
	check(t, err)
	if _, err := holding.Exec(t.Context(), `SELECT FROM users WHERE id IN (1000, 5000) FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	go func() {
		s, err := f.r.Shred(t.Context(), p, 0)
		if err != nil {
			t.Error(err)
		}
		done <- s
	}()
	const left = `SELECT count(*) FROM users WHERE firm = 1 AND bidx IS NOT NULL`
	testenv.Eventually(t, time.Minute, func() error {
		if n := testenv.One[int](t, f, left); n != 2 {
			return fmt.Errorf("%d tokens are left", n)
		}
		return nil
	})
	check(t, holding.Commit(t.Context()))
	if s := <-done; s.Cleared != 8006 {
		t.Errorf("%d rows were cleared", s.Cleared)
	}
	if n := testenv.One[int](t, f, left); n != 0 {
		t.Errorf("%d tokens are left", n)
	}
	if n := testenv.One[int](t, f, `SELECT count(*) FROM users WHERE firm = 0 AND bidx IS NOT NULL`); n != 5 {
		t.Errorf("%d tokens of others", n)
	}
}
