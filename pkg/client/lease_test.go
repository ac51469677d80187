package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func (s *shop) live() (ids []string) {
	s.t.Helper()
	for _, lease := range must(lifecycle.Live(s.t.Context(), s))(s.t) {
		ids = append(ids, lease.ID)
	}
	return ids
}

// TestALeaseSaysWhoIsThere with the revision of its keys, until the client is closed.
func TestALeaseSaysWhoIsThere(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	c := s.still(func(c *client.Config) { c.Name = "billing" })
	lease := must(lifecycle.Live(t.Context(), s))(t)[0]
	revision := testenv.One[int64](t, s, `SELECT revision FROM cipherfleet.installation`)
	if lease.ID != c.Report().ID || !strings.HasPrefix(lease.ID, "billing-") || lease.Kind != lifecycle.LeaseClient || lease.Revision != revision || c.Ready() != nil {
		t.Errorf("%+v of %+v, ready: %v", lease, c.Report(), c.Ready())
	}
	s.next()
	if report := c.Report(); report.Carried != revision {
		t.Errorf("it has noticed by itself: %+v", report)
	}
	check(t, c.Refresh(t.Context()))
	if report := c.Report(); report.Carried <= revision || report.Carried != report.Revision {
		t.Errorf("it has not noticed: %+v", report)
	}
	check(t, c.Close(t.Context()))
	if ids := s.live(); len(ids) > 0 || c.Ready() == nil {
		t.Errorf("after it was closed %v are there, ready: %v", ids, c.Ready())
	}
}

// TestALeaseNeverGoesBack, whoever else refreshes the client at the same moment: whoever was told that it is up to date
// may count on it, as who activates a scheme does.
func TestALeaseNeverGoesBack(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	c := s.client()
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() {
			for ctx.Err() == nil {
				if err := c.Refresh(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for range 200 {
		s.Run(t, `UPDATE cipherfleet.installation SET revision = revision + 1`)
		check(t, c.Refresh(t.Context()))
		for range 3 {
			if behind := testenv.One[int64](t, s, `SELECT i.revision - w.revision FROM cipherfleet.installation i, cipherfleet.workers w`); behind != 0 {
				t.Fatalf("the lease is %d revisions behind a refresh that has ended", behind)
			}
		}
	}
	stop()
	others.Wait()
}

// TestALeaseCarriesWhatWasLookedAtAlone: keys that are loaded are not enough where the columns cannot be seen, and so may
// have moved; until they can the client is waited for.
func TestALeaseCarriesWhatWasLookedAtAlone(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	s.pool = s.as("blind", `GRANT SELECT, UPDATE ON users TO app`, grantsSQL)
	c := s.still()
	s.users(c)
	carried := c.Report().Carried
	role := pg.Ident(testenv.One[string](t, s, `SELECT 'blind_' || current_database()`))
	s.Run(t, `REVOKE SELECT ON cipherfleet.jobs FROM `+role)
	scheme := s.next()
	if err := c.Refresh(t.Context()); pg.ClassOf(err) != pg.ClassDenied {
		t.Errorf("the columns can be looked at: %v", err)
	}
	if report := c.Report(); report.Revision <= carried || report.Carried != carried || report.Err == nil {
		t.Errorf("its keys are of revision %d, and it carries %d, as it did %d (%v)", report.Revision, report.Carried, carried, report.Err)
	}
	var late *lifecycle.NotReadyError
	if err := s.registrar().ActivateScheme(t.Context(), scheme.Column, scheme.Number); !errors.As(err, &late) {
		t.Errorf("nobody waits for it: %v", err)
	}
	s.Run(t, `GRANT SELECT ON cipherfleet.jobs TO `+role)
	check(t, c.Refresh(t.Context()))
	check(t, s.registrar().ActivateScheme(t.Context(), scheme.Column, scheme.Number))
}

// TestAClientWithoutALeaseReadsOnly until it has one again.
func TestAClientWithoutALeaseReadsOnly(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	clock := new(clock)
	a := s.app(s.still(func(c *client.Config) {
		c.Now, c.Poll, c.Lease, c.Lifetimes = clock.now, 10*time.Second, 30*time.Second, cell.Lifetimes{Soft: time.Hour, Hard: 2 * time.Hour}
	}))
	a.mustWrite(updateSQL, 1, "first")
	clock.advance(31 * time.Second)
	if err := a.write(updateSQL, 1, "second"); !errors.Is(err, client.ErrLeaseExpired) || !errors.Is(a.c.Ready(), client.ErrLeaseExpired) {
		t.Errorf("%v, ready: %v", err, a.c.Ready())
	}
	if _, err := client.In[string](a.users[0], 1).Set("second").Value(); !errors.Is(err, client.ErrLeaseExpired) {
		t.Errorf("as an argument: %v", err)
	}
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		_, err := a.users.Copy(t.Context(), tx, []string{"id", "email"}, pgx.CopyFromRows([][]any{{int64(7), "second"}}))
		return err
	})
	if !errors.Is(err, client.ErrLeaseExpired) {
		t.Errorf("by COPY: %v", err)
	}
	a.wants(1, "first")
	check(t, a.c.Refresh(t.Context()))
	a.mustWrite(updateSQL, 1, "second")
	clock.advance(3 * time.Hour)
	if _, err := a.read(1); !errors.Is(err, client.ErrKeyExpired) {
		t.Errorf("after the hard lifetime: %v", err)
	}
}

// TestAKilledClientIsWaitedForUntilItsLeaseEnds.
func TestAKilledClientIsWaitedForUntilItsLeaseEnds(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	killed, alive := s.still(), s.client() // nothing renews the first
	scheme := s.next()
	check(t, alive.Refresh(t.Context()))
	var late *lifecycle.NotReadyError
	if err := s.registrar().ActivateScheme(t.Context(), scheme.Column, scheme.Number); !errors.As(err, &late) || !strings.Contains(err.Error(), killed.Report().ID) {
		t.Errorf("nobody waits for %s: %v", killed.Report().ID, err)
	}
	s.Run(t, `UPDATE cipherfleet.workers SET expires_at = clock_timestamp() WHERE id = $1`, killed.Report().ID) // its time is over
	s.ready(scheme)
	if ids := s.live(); !slices.Equal(ids, []string{alive.Report().ID}) {
		t.Errorf("there are %v", ids)
	}
}

// TestHintsArriveLongBeforeAPoll from Postgres, and from whatever the application hands on.
func TestHintsArriveLongBeforeAPoll(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	slow := func(c *client.Config) { c.Poll, c.Lease = time.Hour, 4*time.Hour }
	a := s.app(s.client(slow))
	reaches := func(phase lifecycle.Phase, scheme uint16) {
		t.Helper()
		testenv.Eventually(t, patience, func() error {
			if report := a.users[0].Report(); report.Phase != phase || report.Scheme != scheme {
				return fmt.Errorf("%+v", report)
			}
			return nil
		})
	}
	s.register()
	reaches(lifecycle.PhaseSchemaAdded, 0)
	s.dualWrite()
	reaches(lifecycle.PhaseDualWriting, 1)
	s.backfill()
	s.cutOver("email_plaintext")
	reaches(lifecycle.PhaseCutOver, 1)
	s.ready(s.next())
	reaches(lifecycle.PhaseCutOver, 2)

	hints := make(chan struct{})
	own := s.app(s.client(slow, func(c *client.Config) { c.Hints = hints }))
	before := own.c.Report().Leased
	hints <- struct{}{}
	testenv.Eventually(t, patience, func() error {
		if !own.c.Report().Leased.After(before) {
			return errors.New("it has not looked")
		}
		return nil
	})
	close(hints)
	s.drop()
	testenv.Eventually(t, patience, func() error {
		if report := own.users[0].Report(); report.Phase != lifecycle.PhaseDropped {
			return fmt.Errorf("%+v", report)
		}
		return nil
	})
}

// TestKeysThatAreTakenAway fail those who need them, and nobody else; nothing is ever written in the clear instead.
func TestKeysThatAreTakenAway(t *testing.T) {
	t.Parallel()
	for class, want := range map[cell.KEKClass]error{cell.KEKDenied: client.ErrKeyRevoked, cell.KEKDisabled: client.ErrKeyRevoked, cell.KEKDestroyed: client.ErrKeyDestroyed} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			s := sold(t, 1)
			s.source = "ssn"
			s.register()
			s.dualWrite()
			clock := new(clock)
			c := s.client(func(c *client.Config) {
				c.Now, c.Poll, c.Lifetimes = clock.now, 50*time.Millisecond, cell.Lifetimes{Soft: time.Minute, Hard: time.Hour}
			})
			a := app{s, c, s.users(c, "email", "ssn")}
			other := s.still() // its keys stay as long as its clock says
			asked := s.kek.asked.Load()
			s.kek.class.Store(cell.KEKUnavailable)
			clock.advance(2 * time.Minute)
			testenv.Eventually(t, patience, func() error {
				if s.kek.asked.Load() == asked {
					return errors.New("the key service is not asked")
				}
				return nil
			})
			a.wants(1, "user1@example.com") // an outage is no revocation
			s.kek.class.Store(class)
			clock.advance(2 * time.Minute)
			testenv.Eventually(t, patience, func() error {
				if _, err := a.read(1); !errors.Is(err, want) {
					return fmt.Errorf("it is read: %w", err)
				}
				return nil
			})
			var name string
			err := s.pool.QueryRow(t.Context(), `SELECT id, {email}, name FROM users`, a.users).Scan(a.users.Row(nil, new(string), &name))
			if !errors.Is(err, want) || name != "name 1" {
				t.Errorf("read: %v, want %v, beside %q", err, want, name)
			}
			if err := a.write(updateSQL, 1, "clear"); !errors.Is(err, want) {
				t.Errorf("write: %v", err)
			}
			if _, err := s.pool.Exec(t.Context(), `UPDATE users SET {ssn = $2 key $1} WHERE id = $1`, a.users, 1, "clear"); !errors.Is(err, want) {
				t.Errorf("write where plaintext is the truth: %v", err)
			}
			if n := testenv.One[int](t, s, `SELECT count(*) FROM users WHERE ssn IS NOT NULL`); n != 0 {
				t.Error("it was written in the clear")
			}
			app{s, other, s.users(other)}.wants(1, "user1@example.com")
			if late := s.still(); late.Ready() != nil {
				t.Errorf("a client that comes meanwhile has other columns to read: %v", late.Ready())
			}
		})
	}
}

// TestAKeyServiceThatIsOutOfReach keeps a fresh client from beginning.
func TestAKeyServiceThatIsOutOfReach(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	s.kek.class.Store(cell.KEKUnavailable)
	if _, err := client.Open(t.Context(), s.pool, client.Config{KEK: s.kek}); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Errorf("%v", err)
	}
	if ids := s.live(); len(ids) > 0 {
		t.Errorf("it has left a lease: %v", ids)
	}
	for what, config := range map[string]client.Config{"no KEK": {}, "a lease that polling cannot keep": {KEK: s.kek, Poll: time.Minute, Lease: time.Minute}} {
		if _, err := client.Open(t.Context(), s.pool, config); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// TestAServerThatTakesNoWrites is read from: without a lease, a hint or a migration.
func TestAServerThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	s := sold(t, 2)
	s.activate(s.nextFor())
	config := must(pgxpool.ParseConfig(s.URL))(t)
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on" // what a standby answers with, too
	pool := must(pgxpool.NewWithConfig(t.Context(), config))(t)
	defer pool.Close()
	c := must(client.Open(t.Context(), pool, client.Config{KEK: s.kek, Migrate: 100}))(t)
	defer c.Close(context.Background()) //nolint:errcheck // the test is over
	users := s.users(c)
	var email string
	check(t, pool.QueryRow(t.Context(), selectSQL, users, 1).Scan(users.Row(nil, &email)))
	if report := c.Report(); email != "user1@example.com" || !report.Standby || c.Ready() != nil || !report.Leased.IsZero() {
		t.Errorf("%q, %+v, ready: %v", email, report, c.Ready())
	}
	if _, err := pool.Exec(t.Context(), updateSQL, users, 1, "x"); !errors.Is(err, client.ErrLeaseExpired) {
		t.Errorf("it writes: %v", err)
	}
}

// TestAnApplicationGoesOnWhereItMayNotSeal: of columns that it has no right on, and of columns that hold something else than
// cells of ours, it writes plaintext as before, and the row is uncovered; once cells are the truth that is an error.
func TestAnApplicationGoesOnWhereItMayNotSeal(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.source = "ssn" // made by an encrypter of the user's own
	s.register()
	s.run([]string{`ALTER TABLE users DROP COLUMN ssn_encrypted`}, lifecycle.Event{Kind: lifecycle.KindDualWriting})
	s.Run(t, `ALTER TABLE users ADD COLUMN ssn_encrypted jsonb; UPDATE cipherfleet.columns SET target_attnum = (SELECT attnum FROM pg_attribute WHERE attrelid = relid AND attname = 'ssn_encrypted')`)
	s.source = "email"
	s.register()
	s.dualWrite()
	s.pool = s.as("clerk", `GRANT SELECT, INSERT (id, email, ssn), UPDATE (email, ssn) ON users TO app`, grantsSQL)
	c := s.still()
	users := s.users(c, "email", "ssn")
	const write = `INSERT INTO users (id, {email ...}, {ssn ...}) VALUES ($1, {email $2 key $1}, {ssn $2 key $1}) ON CONFLICT (id) DO UPDATE SET {email = excluded}, {ssn = excluded}`
	for _, want := range []string{"first", "second"} {
		if _, err := s.pool.Exec(t.Context(), write, users, 1, want); err != nil {
			t.Fatal(err)
		}
		var email, ssn string
		check(t, s.pool.QueryRow(t.Context(), `SELECT {email}, {ssn} FROM users`, users).Scan(users.Row(&email, &ssn)))
		if email != want || ssn != want {
			t.Errorf("%q and %q, want %q", email, ssn, want)
		}
	}
	if !testenv.One[bool](t, s, `SELECT email_encrypted IS NULL FROM users`) {
		t.Error("somebody has sealed it")
	}
	s.source = "ssn"
	s.run(nil, lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: job}, lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: job}, lifecycle.Event{Kind: lifecycle.KindCutOver})
	check(t, c.Refresh(t.Context()))
	if _, err := s.pool.Exec(t.Context(), `UPDATE users SET {ssn = $1 key $2}`, users, "clear", 1); !errors.Is(err, client.ErrNoScheme) {
		t.Errorf("where another's cells are the truth: %v", err)
	}
}

// TestADatabaseWithoutTheSchema is told what it lacks.
func TestADatabaseWithoutTheSchema(t *testing.T) {
	t.Parallel()
	s := sold(t, 0)
	s.pool = s.connect(testenv.EmptyDatabase(t).URL)
	if _, err := client.Open(t.Context(), s.pool, client.Config{KEK: s.kek}); err == nil || !strings.Contains(err.Error(), "cipherfleet install") {
		t.Errorf("%v", err)
	}
}

// as is a pool whose sessions have a role of this test, with rights that name it app, and with these settings.
func (s *shop) as(who string, grants ...string) *pgxpool.Pool {
	s.t.Helper()
	name := who + "_" + testenv.One[string](s.t, s, `SELECT current_database()::text`) // roles belong to the whole server
	role := pg.Ident(name)
	s.Run(s.t, "CREATE ROLE "+role)
	s.t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			if _, err := s.Exec(context.WithoutCancel(s.t.Context()), sql+role); err != nil {
				s.t.Error(err)
			}
		}
	})
	for _, sql := range grants {
		s.Run(s.t, strings.ReplaceAll(sql, "TO app", "TO "+role))
	}
	config := must(pgxpool.ParseConfig(s.URL))(s.t)
	config.ConnConfig.RuntimeParams["role"] = name
	config.ConnConfig.RuntimeParams["search_path"] = "trap, pg_catalog, public"
	pool := must(pgxpool.NewWithConfig(s.t.Context(), config))(s.t)
	s.t.Cleanup(pool.Close)
	return pool
}

// grantsSQL is what docs/client.md tells an operator to grant, but for blind indexes, of which who lacks that right knows nothing.
const grantsSQL = `GRANT USAGE ON SCHEMA cipherfleet TO app;
GRANT SELECT ON cipherfleet.installation, cipherfleet.columns, cipherfleet.schemes, cipherfleet.deks, cipherfleet.events, cipherfleet.jobs TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON cipherfleet.workers TO app`

// TestLeastPrivilege: these rights are enough, whatever the role's search path finds first.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.Run(t, `CREATE SCHEMA trap`)
	s.pool = s.as("app", `GRANT USAGE ON SCHEMA trap TO app; GRANT SELECT, INSERT, UPDATE ON users TO app; GRANT USAGE ON SEQUENCE users_id_seq TO app`, grantsSQL)
	s.Run(t, `CREATE FUNCTION trap.coalesce(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''trapped''';
CREATE FUNCTION trap.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''trapped''';
CREATE FUNCTION trap.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION trap.never(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR trap.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap.never)`)
	const insert, update, read = `INSERT INTO users (id, {email ...}) VALUES ($1, {email $2 key $1})`, `UPDATE users SET {email = $2 key $1}`, `SELECT id, {email} FROM users`
	for i, phase := range phases() {
		phase.move(s)
		c := s.still(migrating)
		users := s.users(c)
		want := fmt.Sprint("mail ", i)
		if _, err := s.pool.Exec(t.Context(), insert+` ON CONFLICT (id) DO UPDATE SET {email = excluded}`, users, 1, want); err != nil {
			t.Fatalf("%s: %v", phase.name, err)
		}
		if _, err := s.pool.Exec(t.Context(), update, users, 1, want); err != nil {
			t.Fatalf("%s: %v", phase.name, err)
		}
		var email string
		if err := s.pool.QueryRow(t.Context(), read, users).Scan(users.Row(nil, &email)); err != nil || email != want {
			t.Fatalf("%s: %q, %v", phase.name, email, err)
		}
		key, err := must(c.Block("public.users", "id", 3))(t).Next(t.Context())
		if err != nil || key < 1 {
			t.Errorf("%d, %v", key, err)
		}
		if i > 1 {
			check(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return users.Rebind(t.Context(), tx, client.Key{1}, client.Key{1}) }))
		}
	}
}
