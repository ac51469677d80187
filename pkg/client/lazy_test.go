package client_test

import (
	"context"
	"errors"
	"fmt"
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

const patience = time.Minute

func migrating(c *client.Config) { c.Migrate = 1e6 }

// scan reads rows by primary key outside of a transaction.
func (a app) scan(q client.Querier, from, through int64) {
	a.t.Helper()
	rows := must(a.users.Query(a.t.Context(), q, `SELECT id, {email} FROM users WHERE id BETWEEN $1 AND $2`, from, through))(a.t)
	defer rows.Close()
	for rows.Next() {
		var id int64
		var email *string
		check(a.t, rows.Scan(&id, &email))
	}
	check(a.t, rows.Err())
}

// TestReadingBringsRowsToTheNewestScheme also for two columns of one row at once, whose cells are replaced one by one.
func TestReadingBringsRowsToTheNewestScheme(t *testing.T) {
	t.Parallel()
	s := sold(t, 0)
	s.source = "ssn"
	s.register()
	s.dualWrite()
	s.backfill()
	s.cutOver("ssn_plaintext")
	s.drop()
	c := s.client(migrating)
	users := s.users(c, "email", "ssn")
	const rows = 50
	for id := range rows {
		_, err := s.pool.Exec(t.Context(), `INSERT INTO users (id, {email ...}, {ssn ...}) VALUES ($1, {email $2 key $1}, {ssn $3 key $1})`, users, id, fmt.Sprint("mail ", id), fmt.Sprint("ssn ", id))
		check(t, err)
	}
	for _, source := range []string{"email", "ssn"} {
		s.source = source
		s.activate(s.nextFor(c))
	}
	check(t, c.Refresh(t.Context()))
	read := func(q client.Querier) {
		t.Helper()
		all := must(users.Query(t.Context(), q, `SELECT id, {email}, {ssn} FROM users`))(t)
		defer all.Close()
		for all.Next() {
			var id int64
			var email, ssn string
			check(t, all.Scan(&id, &email, &ssn))
			if email != fmt.Sprint("mail ", id) || ssn != fmt.Sprint("ssn ", id) {
				t.Fatalf("row %d reads %s and %s", id, email, ssn)
			}
		}
		check(t, all.Err())
	}
	old := func() int64 {
		return testenv.One[int64](t, s, `SELECT count(*) FILTER (WHERE substr(email, 7, 2) = '\x0001') + count(*) FILTER (WHERE substr(ssn, 7, 2) = '\x0001') FROM users`)
	}
	testenv.Eventually(t, patience, func() error {
		read(s.pool)
		if left := old(); left > 0 {
			return fmt.Errorf("%d old cells are left", left)
		}
		return nil
	})
	read(s.pool)
	if done, _ := c.Migrated(); done != 2*rows { // a row that was read twice meanwhile is replaced once
		t.Errorf("%d cells were replaced, want %d", done, 2*rows)
	}
}

// TestPlaintextBesideAMigratedCellStays until it is dropped.
func TestPlaintextBesideAMigratedCellStays(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.Run(t, `INSERT INTO users (id, email) VALUES (1, 'old@example.com')`)
	s.register()
	s.dualWrite()
	s.backfill()
	s.cutOver("email_plaintext")
	a := s.app(s.client(migrating))
	s.activate(s.nextFor(a.c))
	check(t, a.c.Refresh(t.Context()))
	testenv.Eventually(t, patience, func() error {
		a.wants(1, "old@example.com")
		if s.scheme(1) != 2 {
			return errors.New("row 1 is of the old scheme")
		}
		return nil
	})
	if have := testenv.One[*string](t, s, `SELECT email_plaintext FROM users`); text(have) != "old@example.com" {
		t.Errorf("the plaintext is %s", text(have))
	}
}

// TestReadingWritesNothingWhereNothingMayBeWritten: switched off, in a transaction, and in a session that only reads.
func TestReadingWritesNothingWhereNothingMayBeWritten(t *testing.T) {
	t.Parallel()
	s := sold(t, 4)
	off, on := s.app(s.client()), s.app(s.client(migrating))
	s.activate(s.nextFor(off.c, on.c))
	check(t, errors.Join(off.c.Refresh(t.Context()), on.c.Refresh(t.Context())))
	off.scan(s.pool, 1, 4)
	check(t, pgx.BeginTxFunc(t.Context(), s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error { on.scan(tx, 1, 4); return nil }))
	check(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { on.scan(tx, 1, 4); return nil }))
	config := must(pgxpool.ParseConfig(s.URL))(t)
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	reading := must(pgxpool.NewWithConfig(t.Context(), config))(t)
	defer reading.Close()
	on.scan(reading, 1, 4)
	on.scan(s.pool, 4, 4) // its turn comes after all the others'
	testenv.Eventually(t, patience, func() error {
		if s.scheme(4) != 2 {
			return errors.New("row 4 is of the old scheme")
		}
		return nil
	})
	for id := range int64(3) {
		if s.scheme(id+1) != 1 {
			t.Errorf("row %d was written", id+1)
		}
	}
}

// TestReadingFindsNoMoreRowsThanItMay: beyond the rate, what is read is left as it is.
func TestReadingFindsNoMoreRowsThanItMay(t *testing.T) {
	t.Parallel()
	s := sold(t, 20)
	s.activate(s.nextFor())
	for rate, want := range map[float64]int{0: 0, 1e-6: 1, 3 + 1e-6: 3, 1e6: 20} { // so many at once; the next comes after its time
		a := s.app(s.idle(func(c *client.Config) { c.Migrate = rate }))
		began := time.Now()
		a.scan(s.pool, 1, 20)
		if n := a.c.Found(); n < want || n > want+int(rate*time.Since(began).Seconds()) {
			t.Errorf("at %v rows a second %d of 20 rows are to be migrated, want %d", rate, n, want)
		}
	}
}

// TestWhoseLeaseRanOutMigratesNothing neither what it reads then nor what it has read before.
func TestWhoseLeaseRanOutMigratesNothing(t *testing.T) {
	t.Parallel()
	s := sold(t, 3)
	clock := new(clock)
	a := s.app(s.idle(migrating, func(c *client.Config) {
		c.Now, c.Lifetimes = clock.now, cell.Lifetimes{Soft: 10 * time.Hour, Hard: 20 * time.Hour}
	}))
	s.activate(s.nextFor(a.c))
	check(t, a.c.Refresh(t.Context()))
	a.scan(s.pool, 1, 1)
	clock.advance(2 * time.Hour)
	if a.scan(s.pool, 2, 3); a.c.Found() != 1 {
		t.Errorf("%d rows are to be migrated", a.c.Found())
	}
	if err := a.c.MigrateOne(t.Context()); !errors.Is(err, client.ErrLeaseExpired) || s.scheme(1) != 1 {
		t.Errorf("row 1 is of scheme %d, %v", s.scheme(1), err)
	}
	check(t, a.c.Refresh(t.Context()))
	a.scan(s.pool, 1, 1)
	if check(t, a.c.MigrateOne(t.Context())); s.scheme(1) != 2 {
		t.Errorf("with a lease again row 1 is of scheme %d", s.scheme(1))
	}
}

// TestAStandbyIsOnlyRead: nothing that is read there is migrated, not even by who may write elsewhere; and who has nothing
// else reads without a lease.
func TestAStandbyIsOnlyRead(t *testing.T) {
	t.Parallel()
	server := testenv.DurablePostgres(t)
	db := testenv.Open(t, server.URL("postgres"))
	check(t, lifecycle.Install(t.Context(), db.DB))
	s := openOn(t, db, usersSQL).sell(2)
	before := s.app(must(client.OpenIdle(t.Context(), s.pool, client.Config{KEK: s.kek, Lease: time.Hour, Migrate: 1e6}))(t))
	s.activate(s.nextFor(before.c))
	check(t, before.c.Refresh(t.Context()))
	before.scan(s.pool, 1, 1)
	if before.c.Found() != 1 {
		t.Fatalf("%d rows are to be migrated on the primary", before.c.Found())
	}
	s.Run(t, `COPY (SELECT) TO `+pg.Literal(testenv.One[string](t, db, `SHOW data_directory`)+"/standby.signal"))
	check(t, server.Restart(t.Context()))
	pool := s.connect(server.URL("postgres"))
	if before.scan(pool, 1, 2); before.c.Found() != 1 {
		t.Errorf("%d rows are to be migrated", before.c.Found())
	}
	c := must(client.Open(t.Context(), pool, client.Config{KEK: s.kek, Migrate: 1e6}))(t)
	users := s.users(c)
	var email string
	check(t, pool.QueryRow(t.Context(), selectSQL, users, 1).Scan(users.Row(nil, &email)))
	if report := c.Report(); email != "user1@example.com" || !report.Standby || c.Ready() != nil || !report.Leased.IsZero() || c.Found() != 0 {
		t.Errorf("%q, %+v, ready: %v", email, report, c.Ready())
	}
	if _, err := pool.Exec(t.Context(), updateSQL, users, 1, "x"); !errors.Is(err, client.ErrLeaseExpired) {
		t.Errorf("it writes: %v", err)
	}
	check(t, c.Close(t.Context()))
}

// nextFor is a new scheme that these clients have heard of.
func (s *shop) nextFor(clients ...*client.Client) (scheme cell.Scheme) {
	s.t.Helper()
	scheme = s.next()
	for _, c := range clients {
		check(s.t, c.Refresh(s.t.Context()))
	}
	return scheme
}

// TestAnApplicationsWriteWinsOverMigration: while rows are read and migrated all the time, others write them. Whatever was
// written last is there at the end.
func TestAnApplicationsWriteWinsOverMigration(t *testing.T) {
	t.Parallel()
	const rows, rounds = 8, 12
	s := sold(t, rows)
	reader, writer := s.app(s.client(migrating)), s.app(s.still())
	last := map[int64]string{}
	for round := range rounds {
		scheme := s.nextFor(reader.c, writer.c)
		s.activate(scheme)
		check(t, errors.Join(reader.c.Refresh(t.Context())))
		ctx, stop := context.WithCancel(t.Context())
		read := make(chan error, 1)
		go func() {
			for ctx.Err() == nil {
				for id := range int64(rows) {
					if _, err := reader.read(id + 1); err != nil {
						read <- err
						return
					}
				}
			}
			read <- nil
		}()
		for id := range int64(rows) { // by a client that still writes the scheme before: its cells are migrated at once
			last[id+1] = fmt.Sprintf("round %d row %d", round, id)
			writer.mustWrite(updateSQL, id+1, last[id+1])
		}
		stop()
		check(t, <-read)
		check(t, writer.c.Refresh(t.Context()))
		for id, want := range last {
			writer.wants(id, want)
		}
	}
	testenv.Eventually(t, patience, func() error { // where nobody writes, what was written under the scheme before gives way
		reader.scan(s.pool, 1, rows)
		done, lost := reader.c.Migrated()
		if done == 0 {
			return fmt.Errorf("nothing was migrated, %d cells had changed meanwhile", lost)
		}
		return nil
	})
	for id, want := range last {
		writer.wants(id, want)
	}
}

// TestARowThatChangedIsNotMigrated does it step by step: the row is locked when its turn comes, and then another one.
func TestARowThatChangedIsNotMigrated(t *testing.T) {
	t.Parallel()
	s := sold(t, 2)
	a, writer := s.app(s.client(migrating)), s.app(s.still())
	s.activate(s.nextFor(a.c, writer.c))
	check(t, a.c.Refresh(t.Context())) // the writer still writes the first scheme
	tx := must(s.pool.Begin(t.Context()))(t)
	defer tx.Rollback(context.Background()) //nolint:errcheck // after a commit it does nothing
	_, err := tx.Exec(t.Context(), updateSQL, writer.users, 1, "newer")
	check(t, err)
	a.wants(1, "user1@example.com") // its migration gives way to the lock
	a.wants(2, "user2@example.com")
	testenv.Eventually(t, patience, func() error {
		if done, _ := a.c.Migrated(); done == 0 {
			return errors.New("row 2 is not migrated")
		}
		return nil
	})
	check(t, tx.Commit(t.Context()))
	if s.scheme(1) != 1 {
		t.Error("row 1 was migrated while somebody wrote it")
	}
	a.wants(1, "newer")
}

// TestMigrationWaitsForNobody: a row that somebody holds is passed over as one that has changed, and not waited for; the
// next one is migrated, and so is this one when it is read again.
func TestMigrationWaitsForNobody(t *testing.T) {
	t.Parallel()
	for what, hold := range map[string]string{"written": `UPDATE users SET name = 'x' WHERE id = 1`, "locked": `SELECT FROM users WHERE id = 1 FOR UPDATE`} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := sold(t, 2)
			a := s.app(s.idle(migrating))
			s.activate(s.nextFor(a.c))
			check(t, a.c.Refresh(t.Context()))
			a.scan(s.pool, 1, 2)
			tx := must(s.pool.Begin(t.Context()))(t)
			defer tx.Rollback(context.Background()) //nolint:errcheck // after a commit it does nothing
			_, err := tx.Exec(t.Context(), hold)
			check(t, err)
			for range 2 { // with an error it would have waited until its time was over
				check(t, a.c.MigrateOne(t.Context()))
			}
			if done, lost := a.c.Migrated(); done != 1 || lost != 1 || s.scheme(1) != 1 || s.scheme(2) != 2 {
				t.Errorf("%d rows were migrated, %d passed over; their schemes are %d and %d", done, lost, s.scheme(1), s.scheme(2))
			}
			check(t, tx.Commit(t.Context()))
			a.scan(s.pool, 1, 1)
			if check(t, a.c.MigrateOne(t.Context())); s.scheme(1) != 2 {
				t.Error("row 1 is not migrated")
			}
		})
	}
}
