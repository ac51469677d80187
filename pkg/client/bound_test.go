package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const firmsSQL = `CREATE TABLE users (id bigint PRIMARY KEY, email text, firm int NOT NULL, slug varchar(9) NOT NULL)`

// to has a scheme bound to columns of the users.
func (s *shop) to(names ...string) func(*cell.Scheme) {
	s.t.Helper()
	relation := must(pg.Inspect(s.t.Context(), s, "public", "users"))(s.t)
	var columns []pg.Column
	for _, name := range names {
		column, _ := relation.Column(name)
		columns = append(columns, column)
	}
	label := must(bound.Label(columns))(s.t)
	return func(c *cell.Scheme) { c.RowBound, c.Columns = true, label }
}

// lookAfter has Postgres look after bound columns.
func (s *shop) lookAfter(names ...string) {
	s.t.Helper()
	s.run(s.column().Bind(names).Do)
}

// boundTo is a shop whose cells are bound to columns from now on, and an application that knows it.
func boundTo(t testing.TB, dropped bool, names ...string) (*shop, app, cell.Scheme) {
	t.Helper()
	return boundUnder(t, dropped, cell.KeepNulls, names...)
}

// boundUnder is the same with a null policy.
func boundUnder(t testing.TB, dropped bool, nulls cell.Nulls, names ...string) (*shop, app, cell.Scheme) {
	t.Helper()
	s := open(t, firmsSQL)
	s.register()
	s.dualWrite()
	s.backfill()
	if dropped {
		s.cutOver("email_plaintext")
		s.drop()
	}
	a, bind := s.app(s.still()), s.to(names...)
	scheme := s.next(func(c *cell.Scheme) { bind(c); c.Nulls = nulls })
	s.lookAfter(names...)
	check(t, a.c.Refresh(t.Context()))
	s.activate(scheme)
	check(t, a.c.Refresh(t.Context()))
	return s, a, scheme
}

const (
	insertWith = `INSERT INTO users (id, firm, slug, {email ...}) VALUES ($1, $3, $4, {email $2 key $1 with firm $3 slug $4})`
	readWith   = `SELECT id, slug, firm, {email} FROM users WHERE id = $1`
)

// reads is a row's value, with what it is bound to among what is read.
func (a app) readsWith(id int64) (email *string, err error) {
	var slug string
	var firm int
	err = a.pool.QueryRow(a.t.Context(), readWith, a.users, id).Scan(a.users.Row(&id, &slug, &firm, &email))
	return email, err
}

// Who writes a row names what its cell is bound to, and who reads it selects it: a cell that is moved opens where the
// columns are the same, and nowhere else.
func TestACellBoundToColumns(t *testing.T) {
	t.Parallel()
	for _, dropped := range []bool{false, true} {
		t.Run(fmt.Sprint("dropped ", dropped), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, a, scheme := boundTo(t, dropped, "slug", "firm")
			for id := int64(1); id <= 4; id++ {
				must(s.pool.Exec(ctx, insertWith, a.users, id, fmt.Sprint("mail ", id), id%2, "s"))(t)
			}
			for id := int64(1); id <= 4; id++ {
				if email, err := a.readsWith(id); err != nil || *email != fmt.Sprint("mail ", id) || s.scheme(id) != scheme.Number {
					t.Errorf("row %d: %v", id, err)
				}
			}
			if _, err := s.pool.Exec(ctx, `INSERT INTO users (id, firm, slug, {email ...}) VALUES ($1, 1, 's', {email $2 key $1 with firm $1})`, a.users, 9, "x"); !errors.Is(err, client.ErrNoColumns) {
				t.Errorf("a write that does not name slug: %v", err)
			}
			if _, err := s.pool.Exec(ctx, `INSERT INTO users (id, firm, slug, {email ...}) VALUES ($1, 1, $3, {email $2 key $1 with firm $1 slug $3})`, a.users, 9, "x", nil); !errors.Is(err, client.ErrNoColumns) {
				t.Errorf("a write whose slug is NULL: %v", err)
			}
			if !dropped {
				return
			}
			var email string
			if err := s.pool.QueryRow(ctx, `SELECT firm, {email} FROM users WHERE id = 1`, a.users).Scan(a.users.Row(nil, &email)); !errors.Is(err, client.ErrNoColumns) {
				t.Errorf("a read without slug: %v", err)
			}
			s.Run(t, `UPDATE users SET email = (SELECT email FROM users WHERE id = 3) WHERE id = 1; UPDATE users SET email = (SELECT email FROM users WHERE id = 3) WHERE id = 2`)
			if email, err := a.readsWith(1); err != nil || *email != "mail 3" {
				t.Errorf("the cell of another row of the firm: %v", err)
			}
			if _, err := a.readsWith(2); !errors.Is(err, client.ErrAuth) {
				t.Errorf("the cell of another firm: %v", err)
			}
		})
	}
}

// Rows are copied, and rebound: to another firm, and under another key, with a plaintext beside their cells and without.
func TestRowsBoundToColumnsAreCopiedAndRebound(t *testing.T) {
	t.Parallel()
	for _, dropped := range []bool{false, true} {
		t.Run(fmt.Sprint("dropped ", dropped), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, a, _ := boundTo(t, dropped, "slug", "firm")
			check(t, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
				_, err := a.users.Copy(ctx, tx, []string{"id", "email", "firm", "slug"}, pgx.CopyFromRows([][]any{{int64(1), "mail 1", int32(1), "a"}, {int64(2), "mail 2", int32(2), "b"}}))
				return err
			}))
			if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
				_, err := a.users.Copy(ctx, tx, []string{"id", "email"}, pgx.CopyFromRows([][]any{{int64(3), "mail 3"}}))
				return err
			}); !errors.Is(err, client.ErrNoColumns) {
				t.Errorf("rows without what they are bound to: %v", err)
			}
			rebind := func(f func(tx pgx.Tx) error) {
				t.Helper()
				check(t, pgx.BeginFunc(ctx, s.pool, f))
			}
			rebind(func(tx pgx.Tx) error {
				return a.users.RebindWith(ctx, tx, client.Key{1}, map[string]any{"firm": 7, "slug": "z"})
			})
			rebind(func(tx pgx.Tx) error { return a.users.Rebind(ctx, tx, client.Key{2}, client.Key{20}) })
			if n := testenv.One[int](t, s, `SELECT count(*) FROM users WHERE (id, firm, slug) IN ((1, 7, 'z'), (20, 2, 'b'))`); n != 2 {
				t.Errorf("%d rows are where they were to be", n)
			}
			for id, want := range map[int64]string{1: "mail 1", 20: "mail 2"} {
				if email, err := a.readsWith(id); err != nil || email == nil || *email != want {
					t.Errorf("row %d: %v", id, err)
				}
			}
			if n := testenv.One[int](t, s, `SELECT count(`+pg.Ident(s.column().Target)+`) FROM users`); n != 2 {
				t.Errorf("of two cells %d are left", n)
			}
			if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
				return a.users.RebindWith(ctx, tx, client.Key{99}, map[string]any{"firm": 7})
			}); !errors.Is(err, pgx.ErrNoRows) {
				t.Errorf("a row that is not there: %v", err)
			}
			_, err := s.pool.Exec(ctx, `UPDATE users SET firm = 8 WHERE id = 1`)
			if dropped && pg.Code(err) != "23514" || !dropped && err != nil {
				t.Errorf("somebody else makes the row another firm's: %v", err)
			}
		})
	}
}

// Reading brings cells from the key to columns, to other columns, and back, in the versions of their rows alone.
func TestReadingBringsRowsToOtherBindings(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, firmsSQL)
	s.register()
	s.dualWrite()
	s.backfill()
	s.cutOver("email_plaintext")
	s.drop()
	a := s.app(s.still(migrating))
	for id := range int64(20) {
		must(s.pool.Exec(ctx, insertWith, a.users, id, fmt.Sprint("mail ", id), id%3, fmt.Sprint("s", id)))(t)
	}
	for _, change := range []func(*cell.Scheme){s.to("firm"), s.to("slug", "firm"), func(c *cell.Scheme) { c.RowBound, c.Columns = true, "" }} {
		scheme := s.next(change)
		check(t, a.c.Refresh(ctx))
		s.activate(scheme)
		check(t, a.c.Refresh(ctx))
		testenv.Eventually(t, patience, func() error {
			rows := must(a.users.Query(ctx, s.pool, `SELECT id, firm, slug, {email} FROM users`))(t)
			defer rows.Close()
			for rows.Next() {
				var id int64
				var email string
				check(t, rows.Scan(&id, nil, nil, &email))
				if email != fmt.Sprint("mail ", id) {
					t.Fatalf("row %d reads another value", id)
				}
			}
			check(t, rows.Err())
			if left := testenv.One[int](t, s, `SELECT count(*) FROM users WHERE substr(email, 7, 2) <> int2send($1::int2)`, int16(scheme.Number)); left > 0 {
				return fmt.Errorf("%d cells are of another scheme than %d", left, scheme.Number)
			}
			return nil
		})
	}
}

// A cell of database/sql is told what it is bound to beside its key.
func TestACellOfDatabaseSQLBoundToColumns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, a, _ := boundTo(t, true, "firm")
	db := stdlib.OpenDBFromPool(s.pool)
	t.Cleanup(func() { check(t, db.Close()) })
	must(db.ExecContext(ctx, `INSERT INTO users (id, firm, slug, email) VALUES ($1, $2, 's', $3)`, 1, 5, client.In[string](a.users[0], 1).With("firm", 5).Set("mail 1")))(t)
	var firm int
	email := client.In[string](a.users[0], 1).With("firm", &firm)
	check(t, db.QueryRowContext(ctx, `SELECT firm, email FROM users WHERE id = 1`).Scan(&firm, email))
	if email.V != "mail 1" {
		t.Error("it reads another value")
	}
	into := client.In[string](a.users[0], 1)
	if err := db.QueryRowContext(ctx, `SELECT email FROM users WHERE id = 1`).Scan(into); !errors.Is(err, client.ErrNoColumns) {
		t.Errorf("a cell that is not told: %v", err)
	}
	if _, err := client.In[string](a.users[0], 1).Set("x").Value(); !errors.Is(err, client.ErrNoColumns) {
		t.Errorf("a cell that is not told, as an argument: %v", err)
	}
}

// A bound column is called by the name that it has; one that is not what it was is one clear error, and what is bound
// otherwise is read all the same.
func TestABoundColumnThatChangedIsOneClearError(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, a, _ := boundTo(t, true, "firm")
	must(s.pool.Exec(ctx, insertWith, a.users, 1, "mail 1", 5, "s"))(t)
	s.Run(t, `ALTER TABLE users RENAME firm TO company`)
	check(t, a.c.Refresh(ctx))
	const renamed = `SELECT company, {email} FROM users WHERE id = 1`
	var email string
	check(t, s.pool.QueryRow(ctx, renamed, a.users).Scan(a.users.Row(nil, &email)))
	must(s.pool.Exec(ctx, `UPDATE users SET {email = $2 with company $3} WHERE id = $1`, a.users, 1, "mail 2", 5))(t)
	s.Run(t, `ALTER TABLE users ALTER company DROP NOT NULL; UPDATE cipherfleet.installation SET revision = revision + 1`)
	check(t, a.c.Refresh(ctx))
	err := s.pool.QueryRow(ctx, renamed, a.users).Scan(a.users.Row(nil, &email))
	var changed *bound.ChangedError
	if !errors.As(err, &changed) || !errors.Is(err, client.ErrNoColumns) {
		t.Errorf("a read: %v", err)
	}
	if _, err := s.pool.Exec(ctx, `UPDATE users SET {email = $2 with company $3} WHERE id = $1`, a.users, 1, "mail 3", 5); !errors.As(err, &changed) {
		t.Errorf("a write: %v", err)
	}
}

// A bound column that became wider is written as wide as it is: its values enter addresses as Postgres stores them.
func TestABoundColumnThatBecameWider(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, a, _ := boundTo(t, true, "slug")
	s.Run(t, `DROP TRIGGER `+pg.Ident(ddl.BoundTrigger(s.column().ID))+` ON users; ALTER TABLE users ALTER slug TYPE varchar(20)`)
	s.lookAfter("slug")
	check(t, a.c.Refresh(ctx))
	if _, err := s.pool.Exec(ctx, insertWith, a.users, 1, "mail 1", 5, "longer than nine"); err != nil {
		t.Fatal(err)
	}
	if email, err := a.readsWith(1); err != nil || *email != "mail 1" {
		t.Errorf("a read: %v", err)
	}
}

// Rebinding leaves values as they are: it does not take a new one of an encrypted column, whose cell would be of the old.
func TestRebindingWritesNoValue(t *testing.T) {
	t.Parallel()
	for _, dropped := range []bool{false, true} {
		t.Run(fmt.Sprint("dropped ", dropped), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, a, _ := boundTo(t, dropped, "firm")
			must(s.pool.Exec(ctx, insertWith, a.users, 1, "mail 1", 5, "s"))(t)
			for _, name := range []string{"email", s.column().Target} {
				if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
					return a.users.RebindWith(ctx, tx, client.Key{1}, map[string]any{"firm": 6, name: "mail 2"})
				}); err == nil || !strings.Contains(err.Error(), name+" is encrypted") {
					t.Errorf("%s is set: %v", name, err)
				}
			}
			if email, err := a.readsWith(1); err != nil || *email != "mail 1" {
				t.Errorf("a read: %v", err)
			}
		})
	}
}

// A client that has not heard of a binding reads its cells as soon as it meets them.
func TestAClientThatIsBehindABinding(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, fresh, _ := boundTo(t, true, "firm")
	stale := s.app(s.still())
	next := s.next(s.to("slug"))
	check(t, errors.Join(fresh.c.Refresh(ctx), stale.c.Refresh(ctx)))
	other := s.next(s.to("slug", "firm"))
	check(t, fresh.c.Refresh(ctx))
	testenv.One[int](t, s, `WITH u AS (UPDATE cipherfleet.schemes SET state = CASE number WHEN $1 THEN 'active' ELSE 'readable' END WHERE state IN ('active', 'readable') AND number <> $1 OR number = $1 RETURNING 1) SELECT count(*)::int FROM u`, int(other.Number))
	s.Run(t, `UPDATE cipherfleet.installation SET revision = revision + 1`)
	check(t, fresh.c.Refresh(ctx))
	must(s.pool.Exec(ctx, insertWith, fresh.users, 1, "mail 1", 5, "s"))(t)
	if s.scheme(1) != other.Number || next.Number == other.Number {
		t.Fatal("it was written with another scheme")
	}
	if email, err := stale.readsWith(1); err != nil || *email != "mail 1" {
		t.Errorf("a client that is behind: %v", err)
	}
	check(t, stale.c.Do(ctx, func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, `UPDATE users SET {email = $2 key $1 with firm $3 slug $4} WHERE id = $1`, stale.users, 1, "mail 2", 5, "s")
		return err
	}))
}

// A bound column that is part of the row's key is known by the key, also when that changes.
func TestABoundColumnThatIsPartOfTheKey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, `CREATE TABLE users (firm int, id bigint, email text, PRIMARY KEY (firm, id))`)
	s.register()
	s.dualWrite()
	a := s.app(s.still())
	scheme := s.next(s.to("firm"))
	s.lookAfter("firm")
	check(t, a.c.Refresh(ctx))
	s.activate(scheme)
	check(t, a.c.Refresh(ctx))
	must(s.pool.Exec(ctx, `INSERT INTO users (firm, id, {email ...}) VALUES ($1, $2, {email $3 key $1 $2})`, a.users, 5, 1, "mail 1"))(t)
	check(t, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return a.users.Rebind(ctx, tx, client.Key{5, 1}, client.Key{6, 1}) }))
	sealed := testenv.One[[]byte](t, s, `SELECT email_encrypted FROM users WHERE firm = 6 AND id = 1`)
	email := client.In[string](a.users[0], 6, 1)
	if err := email.Scan(sealed); err != nil || email.V != "mail 1" || s.scheme(1) != scheme.Number {
		t.Errorf("the row under another key: %v", err)
	}
	if err := client.In[string](a.users[0], 5, 1).Scan(sealed); !errors.Is(err, client.ErrAuth) {
		t.Errorf("another firm's row: %v", err)
	}
}
