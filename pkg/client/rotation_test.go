package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// ready asks for a scheme's activation until every lease carries it.
func (s *shop) ready(scheme cell.Scheme) {
	s.t.Helper()
	var late *lifecycle.NotReadyError
	testenv.Eventually(s.t, patience, func() error {
		err := s.registrar().ActivateScheme(s.t.Context(), scheme.Column, scheme.Number)
		if err != nil && !errors.As(err, &late) {
			s.t.Fatal(err)
		}
		return err
	})
	s.schemes[s.source] = scheme
}

// TestASchemeComesWithoutRestart: three clients that poll at different paces write and read each other's rows while two
// schemes come, one that binds to nothing and one of another padding. No read fails, no write is lost.
func TestASchemeComesWithoutRestart(t *testing.T) {
	t.Parallel()
	s := sold(t, 3)
	apps := []app{s.app(s.client()), s.app(s.still()), s.app(s.client(func(c *client.Config) { c.Poll = 50 * time.Millisecond }))}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	var failed atomic.Pointer[error]
	last := make([]string, len(apps))
	for i, a := range apps {
		group.Go(func() {
			for n := 0; ctx.Err() == nil && failed.Load() == nil; n++ {
				value := fmt.Sprintf("value %d of %d", n, i)
				if err := a.write(updateSQL, int64(i+1), value); err != nil {
					failed.Store(&err)
				}
				last[i] = value
				for id := range apps {
					if _, err := a.read(int64(id + 1)); err != nil {
						failed.Store(&err)
					}
				}
			}
		})
	}
	for _, change := range []func(*cell.Scheme){func(c *cell.Scheme) { c.RowBound = false }, func(c *cell.Scheme) { c.RowBound, c.Padding = true, 64 }} {
		scheme := s.next(change)
		if err := s.registrar().ActivateScheme(t.Context(), scheme.Column, scheme.Number); err == nil {
			t.Error("a scheme became active that a client had not heard of")
		}
		check(t, apps[1].c.Refresh(t.Context()))
		s.ready(scheme)
		testenv.Eventually(t, patience, func() error {
			for _, id := range []int64{1, 3} {
				if have := s.scheme(id); have != scheme.Number && failed.Load() == nil {
					return fmt.Errorf("row %d is of scheme %d", id, have)
				}
			}
			return nil
		})
	}
	stop()
	group.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	for i := range apps {
		for _, a := range apps {
			a.wants(int64(i+1), last[i])
		}
	}
}

// TestAnUnknownSchemeIsLookedUp once: a client that hears nothing meets cells of a scheme that came since.
func TestAnUnknownSchemeIsLookedUp(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	stale, fresh := s.app(s.still()), s.app(s.still())
	scheme := s.nextFor(fresh.c)
	check(t, stale.c.Close(t.Context())) // it is no reader that anybody waits for
	var looks atomic.Int64               // at the clock, of which there are a few for each reading of the registry
	stale = s.app(s.still(func(c *client.Config) { c.Now = func() time.Time { looks.Add(1); return time.Now() } }))
	another := s.next()
	s.Run(t, `DELETE FROM cipherfleet.workers`)
	s.activate(another)
	check(t, fresh.c.Refresh(t.Context()))
	fresh.mustWrite(updateSQL, 1, "new")
	if s.scheme(1) != another.Number || another.Number != scheme.Number+1 {
		t.Fatalf("row 1 is of scheme %d", s.scheme(1))
	}
	stale.wants(1, "new")
	foreign := testenv.One[[]byte](t, s, `SELECT overlay(email placing '\x7777' from 7 for 2) FROM users WHERE id = 1`)
	s.Run(t, `UPDATE users SET email = $1 WHERE id = 1`, foreign)
	looks.Store(0)
	if _, err := stale.read(1); !errors.Is(err, client.ErrUnknownScheme) {
		t.Errorf("a scheme that nobody has: %v", err)
	}
	if n := looks.Load(); n == 0 || n > 10 {
		t.Errorf("it was looked up anew and again: %d looks at the clock", n)
	}
}

// TestACellOfAnotherColumnIsSaidToBe, and the registry is not asked for its scheme.
func TestACellOfAnotherColumnIsSaidToBe(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	var looks atomic.Int64
	a := s.app(s.still(func(c *client.Config) { c.Now = func() time.Time { looks.Add(1); return time.Now() } }))
	check(t, a.c.Refresh(t.Context()))
	s.Run(t, `ALTER TABLE users DROP CONSTRAINT `+pg.Ident(ddl.CheckName(s.column().ID)))
	foreign := testenv.One[[]byte](t, s, `UPDATE users SET email = overlay(email placing '\x00007777' from 3 for 4) WHERE id = 1 RETURNING email`)
	looks.Store(0)
	if _, err := a.read(1); !errors.Is(err, client.ErrForeignColumn) {
		t.Errorf("in a row: %v", err)
	}
	if err := client.In[string](a.users[0], 1).Scan(foreign); !errors.Is(err, client.ErrForeignColumn) {
		t.Errorf("in database/sql: %v", err)
	}
	if n := looks.Load(); n > 4 {
		t.Errorf("it was looked up: %d looks at the clock", n)
	}
}

// TestAStaleClientAfterARetirement writes nothing old, and is told so.
func TestAStaleClientAfterARetirement(t *testing.T) {
	t.Parallel()
	s := sold(t, 2)
	fresh := s.app(s.still())
	stale := s.app(s.still())
	first := s.schemes["email"]
	s.activate(s.nextFor(fresh.c, stale.c))
	check(t, fresh.c.Refresh(t.Context()))
	old := testenv.One[[]byte](t, s, `SELECT email FROM users WHERE id = 2`)
	fresh.mustWrite(updateSQL, 1, "new")
	fresh.mustWrite(updateSQL, 2, "new")
	s.Run(t, `DELETE FROM cipherfleet.workers`) // its lease has run out long ago
	s.Run(t, fmt.Sprintf(`ALTER TABLE users ADD CONSTRAINT cipherfleet_%d_fence CHECK (email IS NULL OR substr(email, 7, 2) <> '\x0001')`, s.column().ID))
	s.Run(t, `UPDATE cipherfleet.schemes SET state = 'retired', retired_at = now() WHERE number = 1`)
	s.Run(t, `UPDATE cipherfleet.installation SET revision = revision + 1`)
	if _, err := s.pool.Exec(t.Context(), updateSQL, stale.users, 1, "stale"); err == nil || s.scheme(1) != 2 {
		t.Errorf("an old cell was written: %v", err)
	}
	stale.mustWrite(updateSQL, 1, "again") // after a refusal it looks, and writes the newest
	if s.scheme(1) != 2 {
		t.Errorf("row 1 is of scheme %d", s.scheme(1))
	}
	fresh.wants(1, "again")
	check(t, errors.Join(stale.c.Refresh(t.Context()), fresh.c.Refresh(t.Context())))
	for _, a := range []app{stale, fresh} {
		if err := client.In[string](a.users[0], 2).Scan(old); !errors.Is(err, client.ErrKeyRetired) {
			t.Errorf("a cell of scheme %d opens: %v", first.Number, err)
		}
	}
}

// tenantGrantsSQL is what docs/client.md says of tenants.
const tenantGrantsSQL = `GRANT INSERT ON cipherfleet.deks TO app; GRANT USAGE ON SEQUENCE cipherfleet.deks_id_seq TO app; GRANT UPDATE (revision) ON cipherfleet.installation TO app`

// TestTenantsHaveKeysOfTheirOwn which are made by the first write, and may be shredded.
func TestTenantsHaveKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, firm uuid, email text)`)
	s.register()
	s.dualWrite()
	s.pool = s.as("firms", `GRANT SELECT, INSERT ON users TO app`, grantsSQL, tenantGrantsSQL)
	c := s.still()
	users := s.users(c)
	want := s.schemes["email"]
	want.Number, want.KeyID = 0, 0
	scheme := must(s.registrar().NewScheme(t.Context(), lifecycle.Definition{Scheme: want, Tenant: "firm"}))(t)
	check(t, c.Refresh(t.Context()))
	s.ready(scheme)
	check(t, c.Refresh(t.Context()))
	const tenantSQL = `INSERT INTO users (id, firm, {email ...}) VALUES ($1, $3, {email $2 key $1 tenant $3})`
	const one, two = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "7BA7B810-9dad-11d1-80b4-00c04fd430c8"
	for i, firm := range []any{one, two, nil, two} {
		if _, err := s.pool.Exec(t.Context(), tenantSQL, users, i, fmt.Sprint("mail ", i), firm); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.pool.Exec(t.Context(), insertOne, users, 9, "nobody's"); !errors.Is(err, client.ErrTenant) {
		t.Errorf("without its tenant: %v", err)
	}
	if keys := testenv.Column[string](t, s, `SELECT DISTINCT tenant FROM cipherfleet.deks WHERE tenant IS NOT NULL ORDER BY 1`); fmt.Sprint(keys) != fmt.Sprint([]string{one, "7ba7b810-9dad-11d1-80b4-00c04fd430c8"}) {
		t.Errorf("keys of %v", keys)
	}
	s.shred(scheme.Column, one)
	check(t, c.Refresh(t.Context()))
	for i, open := range []error{client.ErrKeyDestroyed, nil, nil, nil} {
		sealed := testenv.One[[]byte](t, s, `SELECT email_encrypted FROM users WHERE id = $1`, i)
		if err := client.In[string](users[0], i).Scan(sealed); !errors.Is(err, open) {
			t.Errorf("row %d: %v, want %v", i, err, open)
		}
	}
}

// TestWhatAClientSealsForAShreddedTenantIsNotWritten: one that has not heard of it yet holds the key, seals, and is
// refused by Postgres; tried again it has heard.
func TestWhatAClientSealsForAShreddedTenantIsNotWritten(t *testing.T) {
	t.Parallel()
	s, scheme := firms(t)
	a := s.app(s.still())
	key := testenv.One[uint32](t, s, `SELECT id FROM cipherfleet.deks WHERE tenant = '2' AND scheme = $1`, scheme.Number)
	s.shred(scheme.Column, "2")
	for _, sql := range s.column().Shredded([]uint32{key}).Do {
		s.Run(t, sql)
	}
	const write = `UPDATE users SET {email = $2 key $1 tenant $3} WHERE id = $1`
	if _, err := s.pool.Exec(t.Context(), write, a.users, 2, "lost", 2); pg.Code(err) != "23514" {
		t.Errorf("a client that is behind: %v", err)
	}
	err := a.c.Do(t.Context(), func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, write, a.users, 2, "lost", 2)
		return err
	})
	if !errors.Is(err, client.ErrKeyDestroyed) {
		t.Errorf("tried again: %v", err)
	}
	must(s.pool.Exec(t.Context(), write, a.users, 1, "not lost", 1))(t)
	must(s.pool.Exec(t.Context(), `UPDATE users SET firm = firm`))(t)
}
