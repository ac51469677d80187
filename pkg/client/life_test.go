package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// The three statements of an application, the same in every phase.
const (
	insertSQL = `INSERT INTO users (id, name, {email ...}) VALUES ($1, 'somebody', {email $2 key $1})`
	updateSQL = `UPDATE users SET {email = $2 key $1} WHERE id = $1`
	upsertSQL = `INSERT INTO users (id, {email ...}) VALUES ($1, {email $2 key $1}) ON CONFLICT (id) DO UPDATE SET {email = excluded}`
	selectSQL = `SELECT id, {email} FROM users WHERE id = $1`
)

// app is an application with one client.
type app struct {
	*shop
	c     *client.Client
	users client.Columns
}

func (s *shop) app(c *client.Client) app { return app{s, c, s.users(c)} }

// write runs a statement that writes, again if the column moved under it.
func (a app) write(sql string, args ...any) error {
	return a.c.Do(a.t.Context(), func(ctx context.Context) error {
		tag, err := a.pool.Exec(ctx, sql, append([]any{a.users}, args...)...)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("%d rows", tag.RowsAffected())
		}
		return err
	})
}

func (a app) mustWrite(sql string, args ...any) {
	a.t.Helper()
	if err := a.write(sql, args...); err != nil {
		a.t.Fatalf("%v: %v (%+v)", args[0], err, a.c.Report().Columns)
	}
}

// read is the value of a row; nil is NULL.
func (a app) read(id int64) (value *string, err error) {
	err = a.c.Do(a.t.Context(), func(ctx context.Context) error {
		return a.pool.QueryRow(ctx, selectSQL, a.users, id).Scan(a.users.Row(new(int64), &value))
	})
	return value, err
}

func (a app) wants(id int64, want string) {
	a.t.Helper()
	have, err := a.read(id)
	if err != nil || have == nil || *have != want {
		a.t.Errorf("row %d: %v, %v, want %q (%+v)", id, text(have), err, want, a.c.Report().Columns)
	}
}

func text(s *string) string {
	if s == nil {
		return "NULL"
	}
	return *s
}

// phases are the rungs of a life, each with what leads to it.
func phases() []struct {
	name string
	move func(*shop)
} {
	return []struct {
		name string
		move func(*shop)
	}{
		{"nobody knows it", func(*shop) {}},
		{"schema-added", (*shop).register},
		{"dual-writing", (*shop).dualWrite},
		{"backfilled", (*shop).backfill},
		{"cut-over", func(s *shop) { s.cutOver("email_plaintext") }},
		{"rolled back", func(s *shop) { s.rollBack("email_plaintext") }},
		{"cut-over again", func(s *shop) { s.cutOver("email_plaintext") }},
		{"dropped", (*shop).drop},
	}
}

// byName is the same life where no name ever moves, with a change of mind before the cutover.
func byName() []struct {
	name string
	move func(*shop)
} {
	list := slices.Clone(phases())
	list[4].move = func(s *shop) { s.cutOver("") }
	list[5].move = func(s *shop) { s.rollBack("") }
	list[6].move = func(s *shop) { s.cutOver("") }
	return slices.Insert(list, 4, struct {
		name string
		move func(*shop)
	}{"forgotten", (*shop).forget}, struct {
		name string
		move func(*shop)
	}{"dual-writing again", func(s *shop) { s.run(s.column().Check().Do); s.dualWrite(); s.backfill() }})
}

// TestTheSameCodeWorksInEveryPhase and beside a program that has not noticed the last transition yet: before each one a
// client is opened that learns nothing by itself, and both write and read, in both orders.
func TestTheSameCodeWorksInEveryPhase(t *testing.T) {
	t.Parallel()
	for name, life := range map[string][]struct {
		name string
		move func(*shop)
	}{"swap": phases(), "by name": byName(), "text": phases(), "jsonb": byName()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, usersSQL)
			if form := map[string]cell.Form{"text": cell.FormText, "jsonb": cell.FormJSON}[name]; form != cell.FormBytes {
				s.target, s.form = name, form
			}
			s.Run(t, `INSERT INTO users (id, name, email) VALUES (1, 'old', 'old@example.com'), (2, 'none', NULL)`)
			for i, phase := range life {
				stale := []app{s.app(s.still()), s.app(s.still()), s.app(s.still())}
				phase.move(s)
				fresh := s.app(s.still())
				s.both(phase.name, int64(100*(i+1)), fresh, stale)
			}
			if columns := testenv.Column[string](t, s, `SELECT attname::text FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped`); slices.Contains(columns, "email_plaintext") {
				t.Errorf("the plaintext is there: %v", columns)
			}
		})
	}
}

// both has two programs write and read the same rows; each stale one meets the transition in another way.
func (s *shop) both(phase string, row int64, fresh app, stale []app) {
	s.t.Helper()
	first, second := fmt.Sprintf("first@%d", row), fmt.Sprintf("second@%d", row)
	fresh.mustWrite(insertSQL, row, first)
	stale[0].wants(row, first) // it meets the transition by a read
	stale[1].mustWrite(updateSQL, row, second)
	fresh.wants(row, second)
	stale[2].mustWrite(insertSQL, row+1, first) // by an insert
	fresh.wants(row+1, first)
	fresh.mustWrite(upsertSQL, row+1, second)
	for _, a := range append(stale, fresh) {
		a.wants(row, second)
		a.wants(row+1, second)
		a.wants(1, "old@example.com")
		if have, err := a.read(2); err != nil || have != nil {
			s.t.Errorf("%s: NULL is read as %s, %v", phase, text(have), err)
		}
	}
	fresh.mustWrite(updateSQL, row+1, nil)
	if have, err := stale[0].read(row + 1); err != nil || have != nil {
		s.t.Errorf("%s: NULL is read as %s, %v", phase, text(have), err)
	}
	s.neverStale(phase)
	if s.t.Failed() {
		s.t.Fatalf("at %s", phase)
	}
}

// neverStale fails if a cell is of another value than the plaintext beside it.
func (s *shop) neverStale(phase string) {
	s.t.Helper()
	c := s.column()
	if c == nil {
		return
	}
	relation := must(pg.Inspect(s.t.Context(), s, "public", "users"))(s.t)
	if _, both := relation.Column(c.Source); !both || c.Source == c.Target {
		return
	}
	if _, both := relation.Column(c.Target); !both {
		return
	}
	x := s.still()
	ids := testenv.Column[int64](s.t, s, fmt.Sprintf(`SELECT id FROM users WHERE %s IS NOT NULL AND %s IS NOT NULL`, pg.Ident(c.Source), pg.Ident(c.Target)))
	email := s.users(x)[0]
	for _, id := range ids {
		var plain string
		sealed := client.In[string](email, id)
		check(s.t, s.pool.QueryRow(s.t.Context(), fmt.Sprintf(`SELECT %s, %s FROM users WHERE id = $1`, pg.Ident(c.Source), pg.Ident(c.Target)), id).Scan(&plain, sealed))
		if sealed.V != plain {
			s.t.Errorf("%s: row %d has plaintext %q and the cell of %q", phase, id, plain, sealed.V)
		}
	}
}

// TestNoWriteIsMissed: every kind of statement leaves plaintext and cell beside each other, however often its plan is used,
// and capture has nothing to clear; also where a write that misses the cell is refused.
func TestNoWriteIsMissed(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	s.run(s.column().Strict().Do)
	conn := must(pgx.Connect(t.Context(), s.URL))(t)
	defer conn.Close(t.Context()) //nolint:errcheck // the test is over
	missed := func() (n int64) {
		return testenv.One[int64](t, s, `SELECT count(*) FROM cipherfleet.missed_writes`) + testenv.One[int64](t, s, ddl.Missed(s.column().ID))
	}
	for round, move := range []func(){func() {}, func() { s.backfill(); s.cutOver("") }} {
		move()
		a := s.app(s.still())
		for i := range 8 {
			id, value := int64(100*round+10*i), fmt.Sprintf("value %d", i)
			for n, write := range []func(id int64) error{
				func(id int64) error { _, err := conn.Exec(t.Context(), insertSQL, a.users, id, value); return err },
				func(id int64) error { _, err := conn.Exec(t.Context(), upsertSQL, a.users, id, value); return err },
				func(id int64) error {
					_, err := conn.Exec(t.Context(), upsertSQL, a.users, id-1, value+"!")
					return err
				},
				func(id int64) error {
					_, err := conn.Exec(t.Context(), updateSQL, a.users, id-3, value+"?")
					return err
				},
				func(id int64) error {
					b := &pgx.Batch{}
					b.Queue(insertSQL, a.users, id, value)
					b.Queue(updateSQL, a.users, id, "batched")
					return conn.SendBatch(t.Context(), b).Close()
				},
				func(id int64) error {
					_, err := conn.Exec(t.Context(), insertSQL, pgx.QueryExecModeSimpleProtocol, a.users, id, `it's '{email}' \`)
					return err
				},
				func(id int64) error {
					_, err := conn.Exec(t.Context(), `WITH x AS (SELECT $1::bigint AS id) INSERT INTO users (id, {email ...}) SELECT x.id, {email $2 key $1} FROM x RETURNING {email}`, a.users, id, value)
					return err
				},
			} {
				if err := write(id + int64(n)); err != nil {
					t.Fatalf("statement %d: %v", n, err)
				}
			}
		}
		if n := testenv.One[int](t, s, `SELECT count(*) FROM users WHERE email IS NULL OR email_encrypted IS NULL`); n > 0 {
			t.Errorf("round %d: %d rows lack one of both", round, n)
		}
		s.neverStale("dual-writing")
		if round == 0 && missed() > 0 {
			t.Errorf("%d writes were missed", missed())
		}
	}
	if n := testenv.One[int64](t, s, ddl.ReverseMissed(s.column().ID)); n > 0 {
		t.Errorf("%d plaintexts were cleared", n)
	}
}

// TestAStatementThatMeetsATransitionReadsRightOrFails gives statements to the pool itself: one that was made before a
// transition either reads right or fails, and the next one reads right.
func TestAStatementThatMeetsATransitionReadsRightOrFails(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.Run(t, `INSERT INTO users (id, email) VALUES (1, 'old@example.com')`)
	for _, phase := range phases() {
		stale := s.app(s.still())
		read := func() (value string, err error) {
			err = s.pool.QueryRow(t.Context(), selectSQL, stale.users, 1).Scan(stale.users.Row(new(int64), &value))
			return value, err
		}
		if value, err := read(); err != nil || value != "old@example.com" {
			t.Fatalf("before %s: %q, %v", phase.name, value, err)
		}
		phase.move(s)
		for tries := 0; ; tries++ {
			value, err := read()
			if err == nil && value != "old@example.com" {
				t.Fatalf("%s: read %q", phase.name, value)
			}
			if err == nil {
				break
			}
			if tries == 3 || !stale.c.Again(t.Context(), err) {
				t.Fatalf("%s: %v", phase.name, err)
			}
		}
	}
}

// TestAClientThatKnowsOfNothingFindsCells in the place of plaintext that were bytes as well: it hands out values, and never
// a cell.
func TestAClientThatKnowsOfNothingFindsCells(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email bytea)`)
	stale := s.still()
	users := s.users(stale)
	s.register()
	s.dualWrite()
	writer := s.app(s.still())
	writer.mustWrite(insertOne, 1, []byte("value"))
	s.run(append(s.column().Capture().Undo, `ALTER TABLE users DROP COLUMN email`, `ALTER TABLE users RENAME email_encrypted TO email`))
	var value []byte
	check(t, s.pool.QueryRow(t.Context(), selectSQL, users, 1).Scan(users.Row(nil, &value)))
	if string(value) != "value" {
		t.Errorf("read %q", value)
	}
	held := client.In[[]byte](must(s.still().Column(t.Context(), "public.users", "email"))(t), 1)
	check(t, s.pool.QueryRow(t.Context(), `SELECT email FROM users`).Scan(held))
	if string(held.V) != "value" {
		t.Errorf("a cell reads %q", held.V)
	}
}

// TestAfterACutoverByNameCellsAreTheTruth whatever stands in the plaintext, which code that writes cells alone leaves NULL.
func TestAfterACutoverByNameCellsAreTheTruth(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.Run(t, `INSERT INTO users (id, email) VALUES (1, 'old'), (2, 'old')`)
	s.register()
	s.dualWrite()
	s.backfill()
	s.cutOver("")
	a := s.app(s.still())
	sealed := must(client.In[string](a.users[0], 1).Set("new").Value())(t)
	s.Run(t, `UPDATE users SET email_encrypted = $1 WHERE id = 1`, sealed)
	s.Run(t, `UPDATE users SET email_encrypted = NULL, email = NULL WHERE id = 2`)
	a.wants(1, "new")
	if have, err := a.read(2); err != nil || have != nil {
		t.Errorf("NULL is read as %s, %v", text(have), err)
	}
}

// TestATransactionIsTriedAgainAsAWhole when a column moved under one of its statements, and only then.
func TestATransactionIsTriedAgainAsAWhole(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	s.backfill()
	a := s.app(s.still())
	s.cutOver("email_plaintext")
	tries := 0
	check(t, a.c.Do(t.Context(), func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			tries++
			if _, err := tx.Exec(ctx, `INSERT INTO users (id, name) VALUES (7, 'ada')`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, updateSQL, a.users, 7, "ada@example.com")
			return err
		})
	}))
	if a.wants(7, "ada@example.com"); tries != 2 {
		t.Errorf("it took %d tries", tries)
	}
	want := errors.New("the application's own")
	if err := a.c.Do(t.Context(), func(context.Context) error { tries++; return want }); !errors.Is(err, want) || tries != 3 {
		t.Errorf("an error that tells of no transition: %v after %d tries", err, tries)
	}
}
