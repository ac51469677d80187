package client_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/client/exchange"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// While somebody rebinds a row, others write it: who names in the condition what his cell is bound to finds no row, and
// who rebinds it, too, waits, and seals the value that it has then for what the other has made of it.
func TestARowThatIsReboundWhileOthersWriteIt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, a, _ := boundTo(t, true, "slug", "firm")
	must(s.pool.Exec(ctx, insertWith, a.users, 1, "mail 1", 5, "s"))(t)
	type answer struct {
		rows int64
		err  error
	}
	written, rebound := make(chan answer, 1), make(chan error, 1)
	check(t, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		check(t, a.users.RebindWith(ctx, tx, client.Key{1}, map[string]any{"firm": 7}))
		go func() {
			tag, err := s.pool.Exec(ctx, `UPDATE users SET {email = $2 key $1 with firm $3 slug $4} WHERE id = $1 AND firm = $3 AND slug = $4`, a.users, 1, "mail 2", 5, "s")
			written <- answer{tag.RowsAffected(), err}
		}()
		go func() {
			rebound <- pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
				return a.users.RebindWith(ctx, tx, client.Key{1}, map[string]any{"slug": "z"})
			})
		}()
		testenv.Eventually(t, patience, func() error { return s.waiting(2) })
		return nil
	}))
	if w := <-written; w.err != nil || w.rows != 0 {
		t.Errorf("a write of what is another firm's by now: %d rows, %v", w.rows, w.err)
	}
	check(t, <-rebound)
	if email, err := a.readsWith(1); err != nil || *email != "mail 1" || testenv.One[string](t, s, `SELECT firm || slug FROM users`) != "7z" {
		t.Errorf("the row: %v", err)
	}
}

// waiting is an error until so many sessions wait for a row.
func (s *shop) waiting(n int) error {
	s.t.Helper()
	const sql = `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	if have := testenv.One[int](s.t, s, sql); have != n {
		return fmt.Errorf("%d sessions wait for a row, want %d", have, n)
	}
	return nil
}

// A cell that is bound to the key stays as it is when its row becomes another firm's: who has looked at the firm, to bind
// it to that, is too late then.
func TestACellIsExchangedInTheVersionOfItsRowAlone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, firmsSQL)
	s.register()
	s.dualWrite()
	s.backfill()
	s.cutOver("email_plaintext")
	s.drop()
	a := s.app(s.still())
	for id := 1; id <= 2; id++ {
		must(s.pool.Exec(ctx, `INSERT INTO users (id, firm, slug, {email ...}) VALUES ($1, 5, 's', {email $2 key $1})`, a.users, id, "mail"))(t)
	}
	exchanged := func(id int, meanwhile string) error {
		t.Helper()
		sealed := testenv.One[[]byte](t, s, `SELECT email FROM users WHERE id = $1`, id)
		old := exchange.Relic{Table: s.column().Table, Column: "email", Stored: sealed, KeyID: must(cell.Parse(sealed))(t).KeyID, Key: []any{id},
			Match: func(first int) string { return fmt.Sprintf("id = $%d", first) }}
		check(t, old.Look(ctx, s.DB.DB, []string{"firm"}, func(pgx.Rows) error { return nil }))
		s.Run(t, meanwhile)
		return old.Replace(ctx, s.DB.DB, ddl.WriterSetting, ddl.WriterRotation, sealed, nil)
	}
	if err := exchanged(1, `UPDATE users SET firm = 6 WHERE id = 1`); !errors.Is(err, exchange.ErrGone) {
		t.Errorf("a row that became another firm's: %v", err)
	}
	check(t, exchanged(2, `UPDATE users SET firm = 6 WHERE id = 1`))
}

// An upsert brings what its cell is bound to, or asks for it: a row of another firm becomes the firm's that the cell was
// sealed for, or stays as it is.
func TestAnUpsertOfARowOfAnotherFirm(t *testing.T) {
	t.Parallel()
	for _, dropped := range []bool{false, true} {
		t.Run(fmt.Sprint("dropped ", dropped), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, a, _ := boundTo(t, dropped, "slug", "firm")
			must(s.pool.Exec(ctx, insertWith, a.users, 1, "mail 1", 5, "s"))(t)
			const upsert = insertWith + ` ON CONFLICT (id) DO UPDATE SET {email = excluded}`
			must(s.pool.Exec(ctx, upsert+` WHERE (users.firm, users.slug) = (excluded.firm, excluded.slug)`, a.users, 1, "mail 2", 6, "s"))(t)
			if email, err := a.readsWith(1); err != nil || *email != "mail 1" {
				t.Errorf("a row of another firm: %v", err)
			}
			must(s.pool.Exec(ctx, upsert+`, firm = excluded.firm, slug = excluded.slug`, a.users, 1, "mail 3", 7, "z"))(t)
			if email, err := a.readsWith(1); err != nil || *email != "mail 3" || testenv.One[string](t, s, `SELECT firm || slug FROM users`) != "7z" {
				t.Errorf("a row that became another firm's: %v", err)
			}
			if n := testenv.One[int](t, s, `SELECT count(`+pg.Ident(s.column().Target)+`) FROM users`); n != 1 {
				t.Error("its cell is gone")
			}
		})
	}
}

// Of a row with two encrypted columns whose cells are bound to different columns each is sealed for its own.
func TestARowOfTwoBindingsIsRebound(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text, ssn text, firm int NOT NULL, slug text NOT NULL)`)
	bindings := map[string]string{"email": "firm", "ssn": "slug"}
	for _, s.source = range []string{"email", "ssn"} {
		s.register()
		s.dualWrite()
		s.backfill()
		s.cutOver(s.source + "_plaintext")
		s.drop()
	}
	c := s.still()
	a := app{s, c, s.users(c, "email", "ssn")}
	for _, s.source = range []string{"email", "ssn"} {
		scheme := s.next(s.to(bindings[s.source]))
		s.lookAfter(bindings[s.source])
		check(t, c.Refresh(ctx))
		s.activate(scheme)
		check(t, c.Refresh(ctx))
	}
	must(s.pool.Exec(ctx, `INSERT INTO users (id, firm, slug, {email ...}, {ssn ...}) VALUES (1, 5, 's', {email $1 with firm $3}, {ssn $2 with slug $4})`, a.users, "mail", "number", 5, "s"))(t)
	for _, set := range []map[string]any{{"firm": 6}, {"slug": "t"}, {"firm": 7, "slug": "z"}} {
		check(t, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return a.users.RebindWith(ctx, tx, client.Key{1}, set) }))
		var email, ssn string
		check(t, s.pool.QueryRow(ctx, `SELECT firm, slug, {email}, {ssn} FROM users`, a.users).Scan(a.users.Row(nil, nil, &email, &ssn)))
		if email != "mail" || ssn != "number" {
			t.Errorf("behind %v the row holds other values", set)
		}
	}
	if _, err := s.pool.Exec(ctx, `UPDATE users SET slug = 'other'`); pg.Code(err) != "23514" {
		t.Errorf("somebody else changes what one of them is bound to: %v", err)
	}
	if have := testenv.One[string](t, s, `SELECT firm || slug FROM users`); have != "7z" {
		t.Errorf("the row is at %s", have)
	}
}
