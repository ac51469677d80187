package client_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// dualWriteNulls is the rung dual-writing of a column whose first scheme seals NULL.
func (s *shop) dualWriteNulls() {
	s.t.Helper()
	scheme := s.schemes[s.source]
	scheme.Nulls = cell.SealNulls
	s.schemes[s.source] = scheme
	s.column().Nulls = true
	s.dualWrite()
}

// content is what the cell of a row holds; nil is NULL. A row without a cell fails.
func (s *shop) content(id int64) *string {
	s.t.Helper()
	stored := testenv.One[[]byte](s.t, s, `SELECT `+pg.Ident(s.column().Target)+` FROM users WHERE id = $1 /* cells */`, id)
	if stored == nil {
		s.t.Fatalf("row %d has no cell", id)
	}
	plain, header, err := must(testenv.LoadKeyring(s.t.Context(), s, s.kek))(s.t).Open(nil, s.address(id), s.parsed(stored))
	check(s.t, err)
	if !header.Kind {
		s.t.Errorf("the cell of row %d tells whether it holds NULL", id)
	}
	if plain == nil {
		return nil
	}
	value := string(plain)
	return &value
}

func (s *shop) wantsContent(id int64, want *string) {
	s.t.Helper()
	if have := s.content(id); text(have) != text(want) || (have == nil) != (want == nil) {
		s.t.Errorf("the cell of row %d holds %s, want %s", id, text(have), text(want))
	}
}

// TestNullIsWrittenAsACell with every way to write, from dual-writing to the end of the plaintext, and read as NULL with
// every way to read.
func TestNullIsWrittenAsACell(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormJSON} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			s := open(t, usersSQL)
			s.form, s.target = form, map[cell.Form]string{cell.FormJSON: "jsonb"}[form]
			s.register()
			a := s.app(s.client())
			empty, value := "", "mail"
			for i, phase := range []struct {
				name string
				move func()
			}{
				{"dual-writing", s.dualWriteNulls},
				{"cut-over", func() { s.cutOver("email_plaintext") }},
				{"dropped", s.drop},
				{"NOT NULL", func() { s.Run(t, `ALTER TABLE users ALTER email SET NOT NULL`) }},
			} {
				if phase.move(); phase.name == "dual-writing" {
					s.backfill()
				}
				check(t, a.c.Refresh(t.Context()))
				first := int64(100 * (i + 1))
				for n, v := range []any{nil, (*string)(nil), sql.Null[string]{}, client.In[string](a.users[0], first+3), "", &empty, "mail"} {
					id, want := first+int64(n), (*string)(nil)
					if a.mustWrite(insertSQL, id, v); n > 3 {
						if want = &empty; n == 6 {
							want = &value
						}
					}
					s.wantsContent(id, want)
					a.readsEveryWay(phase.name, id, want)
					a.mustWrite(updateSQL, id, "changed")
					a.mustWrite(upsertSQL, id, want)
					s.wantsContent(id, want)
				}
				check(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
					_, err := a.users.Copy(t.Context(), tx, []string{"id", "email"}, pgx.CopyFromRows([][]any{{first + 50, nil}, {first + 51, ""}}))
					return err
				}))
				s.wantsContent(first+50, nil)
				s.wantsContent(first+51, &empty)
				if s.column() != nil && i == 0 {
					if n := testenv.One[int64](t, s, ddl.Missed(s.column().ID)); n != 0 {
						t.Errorf("%d writes are said to have missed the cell", n)
					}
				}
			}
			if err := a.write(`INSERT INTO users (id, {email ...}) VALUES ($1, {email $2})`, 1, nil); !errors.Is(err, client.ErrNoKey) {
				t.Errorf("a NULL that is bound to no row: %v", err)
			}
		})
	}
}

// readsEveryWay reads one row with placeholders and without, into whatever can hold NULL.
func (a app) readsEveryWay(phase string, id int64, want *string) {
	a.t.Helper()
	var pointer *string
	var null sql.Null[string]
	slot := client.In[string](a.users[0])
	for name, into := range map[string]any{"pointer": &pointer, "sql.Null": &null, "Cell": slot} {
		err := a.c.Do(a.t.Context(), func(ctx context.Context) error {
			return a.pool.QueryRow(ctx, selectSQL, a.users, id).Scan(a.users.Row(new(int64), into))
		})
		if err != nil {
			a.t.Errorf("%s, row %d into %s: %v", phase, id, name, err)
		}
	}
	if (pointer == nil) != (want == nil) || null.Valid != (want != nil) || slot.Valid != (want != nil) || want != nil && (*pointer != *want || null.V != *want || slot.V != *want) {
		a.t.Errorf("%s, row %d is read as %s, %+v, %+v, want %s", phase, id, text(pointer), null, slot.V, text(want))
	}
	var bare string
	err := a.pool.QueryRow(a.t.Context(), selectSQL, a.users, id).Scan(a.users.Row(new(int64), &bare))
	if (err == nil) != (want != nil) {
		a.t.Errorf("%s, row %d into a string: %q, %v", phase, id, bare, err)
	}
}

// TestNullInDatabaseSQL: a cell of NULL is an argument, and is scanned.
func TestNullInDatabaseSQL(t *testing.T) {
	t.Parallel()
	s := soldNulls(t)
	db := stdlib.OpenDB(*must(pgx.ParseConfig(s.URL))(t))
	defer db.Close() //nolint:errcheck // the test is over
	c := must(client.OpenSQL(t.Context(), db, client.Config{KEK: s.kek}))(t)
	defer c.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the test is over
	email := must(c.Column(t.Context(), "public.users", "email"))(t)
	must(db.ExecContext(t.Context(), `INSERT INTO users (id, email) VALUES ($1, $2), ($3, $4)`, 1, client.In[string](email, 1), 2, client.In[string](email, 2).Set("")))(t)
	s.wantsContent(1, nil)
	s.wantsContent(2, new(string))
	s.Run(t, `INSERT INTO users (id) VALUES (3)`)
	for id, want := range map[int64]bool{1: false, 2: true, 3: false} {
		have := client.In[string](email, id).Set("before")
		check(t, db.QueryRowContext(t.Context(), `SELECT email FROM users WHERE id = $1`, id).Scan(have))
		if have.Valid != want || have.V != "" {
			t.Errorf("row %d is read as %+v", id, have.Valid)
		}
	}
}

// soldNulls is a column that is cut over and has no plaintext, whose scheme seals NULL.
func soldNulls(t testing.TB) *shop {
	t.Helper()
	s := open(t, usersSQL)
	s.register()
	s.dualWriteNulls()
	s.backfill()
	s.cutOver("email_plaintext")
	s.drop()
	return s
}

// TestReadingBringsNullsToTheNewestScheme: a NULL stays one from scheme to scheme, sealed or not.
func TestReadingBringsNullsToTheNewestScheme(t *testing.T) {
	t.Parallel()
	s := soldNulls(t)
	a := s.app(s.client(migrating))
	a.mustWrite(insertSQL, 1, nil)
	a.mustWrite(insertSQL, 2, "")
	next := s.next()
	check(t, a.c.Refresh(t.Context()))
	s.activate(next)
	check(t, a.c.Refresh(t.Context()))
	testenv.Eventually(t, patience, func() error {
		a.scan(s.pool, 1, 2)
		if s.scheme(1) != 2 || s.scheme(2) != 2 {
			return errors.New("a row is of the old scheme")
		}
		return nil
	})
	s.wantsContent(1, nil)
	s.wantsContent(2, new(string))
	keeps := s.next(func(c *cell.Scheme) { c.Nulls = cell.KeepNulls })
	check(t, a.c.Refresh(t.Context()))
	s.activate(keeps)
	check(t, a.c.Refresh(t.Context()))
	testenv.Eventually(t, patience, func() error {
		a.scan(s.pool, 1, 2)
		if testenv.One[bool](t, s, `SELECT email IS NOT NULL FROM users WHERE id = 1`) || s.scheme(2) != 3 {
			return errors.New("a row is of the old scheme")
		}
		return nil
	})
	a.wants(2, "")
	if have, err := a.read(1); have != nil || err != nil {
		t.Errorf("NULL is read as %s, %v", text(have), err)
	}
}

// TestANullIsRebound: it opens in its own row only, like a value.
func TestANullIsRebound(t *testing.T) {
	t.Parallel()
	s := soldNulls(t)
	a := s.app(s.still())
	a.mustWrite(insertSQL, 1, nil)
	check(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return a.users.Rebind(t.Context(), tx, client.Key{1}, client.Key{2}) }))
	s.wantsContent(2, nil)
	check(t, a.write(`UPDATE users SET id = $2 WHERE id = $1`, 2, 3))
	if have, err := a.read(3); !errors.Is(err, client.ErrAuth) {
		t.Errorf("without rebinding: %s, %v", text(have), err)
	}
}

// TestWhereNullIsKeptItHasNoCell: also when the scheme before sealed it.
func TestWhereNullIsKeptItHasNoCell(t *testing.T) {
	t.Parallel()
	s := soldNulls(t)
	a := s.app(s.still())
	a.mustWrite(insertSQL, 1, nil)
	keeps := s.next(func(c *cell.Scheme) { c.Nulls = cell.KeepNulls })
	check(t, a.c.Refresh(t.Context()))
	s.activate(keeps)
	check(t, a.c.Refresh(t.Context()))
	a.mustWrite(insertSQL, 2, nil)
	if n := testenv.One[string](t, s, `SELECT string_agg(id::text, ',') FROM users WHERE email IS NULL`); n != "2" {
		t.Errorf("rows %s have no cell", n)
	}
	for id := range int64(2) {
		if have, err := a.read(id + 1); have != nil || err != nil {
			t.Errorf("row %d is read as %s, %v", id+1, text(have), err)
		}
	}
	check(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return a.users.Rebind(t.Context(), tx, client.Key{1}, client.Key{3}) }))
	if testenv.One[bool](t, s, `SELECT email IS NOT NULL FROM users WHERE id = 3`) {
		t.Error("a NULL that is rebound has a cell")
	}
	if _, err := s.pool.Exec(t.Context(), fmt.Sprintf(`INSERT INTO users (id, {email ...}) VALUES (%d, {email $1})`, 4), a.users, nil); err != nil {
		t.Errorf("a NULL needs no key where it has no cell: %v", err)
	}
}

// TestASealedNullIsBoundToColumns: what a NULL's cell is bound to is read, written and rebound as for a value.
func TestASealedNullIsBoundToColumns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, a, scheme := boundUnder(t, true, cell.SealNulls, "slug", "firm")
	for id := int64(1); id <= 4; id++ {
		must(s.pool.Exec(ctx, insertWith, a.users, id, nil, id%2, "s"))(t)
	}
	if n := testenv.One[int](t, s, `SELECT count(email /* cells */) FROM users`); n != 4 {
		t.Fatalf("%d cells, want 4", n)
	}
	check(t, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		return a.users.RebindWith(ctx, tx, client.Key{4}, map[string]any{"firm": 7})
	}))
	for id := int64(1); id <= 4; id++ {
		if email, err := a.readsWith(id); err != nil || email != nil || s.scheme(id) != scheme.Number {
			t.Errorf("row %d: %s, %v", id, text(email), err)
		}
	}
	if _, err := s.pool.Exec(ctx, `INSERT INTO users (id, firm, slug, {email ...}) VALUES ($1, 1, 's', {email $2 key $1 with firm $1})`, a.users, 9, nil); !errors.Is(err, client.ErrNoColumns) {
		t.Errorf("a NULL that does not name slug: %v", err)
	}
	s.Run(t, `UPDATE users SET email = (SELECT email FROM users WHERE id = 3) WHERE id IN (1, 2)`)
	if email, err := a.readsWith(1); err != nil || email != nil {
		t.Errorf("the cell of another row of the firm: %s, %v", text(email), err)
	}
	if _, err := a.readsWith(2); !errors.Is(err, client.ErrAuth) {
		t.Errorf("the cell of another firm: %v", err)
	}
}

// TestACellWhoseValueIsNullIsNull: a pointer that is nil, or anything else that pgx takes for NULL, is one inside of a cell, too.
func TestACellWhoseValueIsNullIsNull(t *testing.T) {
	t.Parallel()
	for _, nulls := range []cell.Nulls{cell.SealNulls, cell.KeepNulls} {
		t.Run(nulls.String(), func(t *testing.T) {
			t.Parallel()
			s := soldNulls(t)
			a := s.app(s.still())
			if !nulls {
				keeps := s.next(func(c *cell.Scheme) { c.Nulls = cell.KeepNulls })
				check(t, a.c.Refresh(t.Context()))
				s.activate(keeps)
				check(t, a.c.Refresh(t.Context()))
			}
			email := a.users[0]
			for id, v := range []any{client.In[*string](email, 1).Set(nil), client.In[sql.Null[string]](email, 2).Set(sql.Null[string]{}), client.In[[]byte](email, 3).Set(nil), client.In[any](email, 4).Set(nil)} {
				id := int64(id + 1)
				if _, err := s.pool.Exec(t.Context(), `INSERT INTO users (id, email) VALUES ($1, $2)`, id, v); err != nil {
					t.Errorf("%T: %v", v, err)
					continue
				}
				if nulls {
					s.wantsContent(id, nil)
				}
				if have, err := a.read(id); have != nil || err != nil {
					t.Errorf("%T is read as %s, %v", v, text(have), err)
				}
			}
		})
	}
}
