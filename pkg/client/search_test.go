package client_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/client/token"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/blind"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// index makes a blind index of the column in work, and takes it to a state.
func (s *shop) index(generation int, normaliser cell.Normaliser, to lifecycle.IndexState) lifecycle.Index {
	s.t.Helper()
	name := "email_bidx"
	if generation > 1 {
		name = fmt.Sprintf("%s_%d", name, generation)
	}
	r := blind.Registrar{Registrar: lifecycle.Registrar{DB: s.DB.DB, KEK: s.kek}}
	x := must(r.Prepare(s.t.Context(), lifecycle.IndexDefinition{Column: s.column().ID, Name: "email_bidx", Generation: generation, Token: name,
		Normaliser: normaliser, Bytes: cell.BlindSize}))(s.t)
	steps := s.tokens(x)
	check(s.t, s.InTx(s.t.Context(), func(tx pg.Tx) error {
		for _, sql := range append(steps.Add().Do, steps.Capture().Do...) {
			if _, err := tx.Exec(s.t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return r.Move(s.t.Context(), tx, x.ID, lifecycle.IndexFilling)
	}))
	if to != lifecycle.IndexFilling {
		s.move(x, to)
	}
	return x
}

func (s *shop) move(x lifecycle.Index, to lifecycle.IndexState) {
	s.t.Helper()
	r := blind.Registrar{Registrar: lifecycle.Registrar{DB: s.DB.DB, KEK: s.kek}}
	check(s.t, s.InTx(s.t.Context(), func(tx pg.Tx) error { return r.Move(s.t.Context(), tx, x.ID, to) }))
}

func (s *shop) tokens(x lifecycle.Index) ddl.Token {
	return ddl.Token{Index: x.ID, Table: s.column().Table, Cell: s.column().Target, Name: x.Token, Bytes: x.Bytes, Key: s.column().Key,
		Parted: testenv.One[bool](s.t, s, `SELECT relkind = 'p' FROM pg_class WHERE oid = 'users'::regclass`)}
}

// bare counts the rows whose token is missing or left over.
func (s *shop) bare(x lifecycle.Index) int {
	s.t.Helper()
	return testenv.One[int](s.t, s, "SELECT count(*) FROM users t WHERE "+s.tokens(x).Uncovered())
}

const lookupSQL = `SELECT id FROM users WHERE {email by email_bidx $1} ORDER BY id`

func (a *app) finds(value any, want ...int64) {
	a.t.Helper()
	rows, err := a.pool.Query(a.t.Context(), lookupSQL, a.users, value)
	check(a.t, err)
	have := must(pgx.CollectRows(rows, pgx.RowTo[int64]))(a.t)
	if fmt.Sprint(have) != fmt.Sprint(want) {
		a.t.Errorf("%v is found in rows %v, want %v", value, have, want)
	}
}

// TestAClientWritesTokensAndFindsByThem in every way in which it writes.
func TestAClientWritesTokensAndFindsByThem(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	x := s.index(1, cell.NormaliseLowerTrim, lifecycle.IndexReady)
	a := s.app(s.still())
	a.mustWrite(insertSQL, 1, "Ada@Example.org")
	a.mustWrite(insertSQL, 2, " ada@example.ORG ")
	a.mustWrite(insertSQL, 3, nil)
	a.mustWrite(insertSQL, 4, "bob@example.org")
	a.finds("ada@example.org", 1, 2)
	a.finds([]string{"BOB@example.org", "ada@example.org"}, 1, 2, 4)
	a.finds(nil)
	a.finds("nobody@example.org")
	a.mustWrite(`UPDATE users SET {email = $2 key $1} WHERE id = $1`, 4, "Bob@Example.org") // the same token
	a.finds("bob@example.org", 4)
	a.mustWrite(`UPDATE users SET {email = $2 key $1} WHERE id = $1`, 4, "carol@example.org")
	a.finds("bob@example.org")
	a.finds("carol@example.org", 4)
	upsert := `INSERT INTO users (id, {email ...}) VALUES ($1, {email $2 key $1}) ON CONFLICT (id) DO UPDATE SET {email = excluded}`
	a.mustWrite(upsert, 4, "dave@example.org")
	a.finds("dave@example.org", 4)
	a.mustWrite(upsert, 4, nil)
	a.finds("dave@example.org")
	defer a.finds("eve@example.org", 50)
	tx := must(a.pool.Begin(t.Context()))(t)
	must(a.users.Copy(t.Context(), tx, []string{"id", "email"}, pgx.CopyFromRows([][]any{{5, "eve@example.org"}, {6, nil}})))(t)
	check(t, a.users.Rebind(t.Context(), tx, client.Key{5}, client.Key{50}))
	must(tx.Exec(t.Context(), `UPDATE users SET name = 'Eve' WHERE id = 50`))(t)
	check(t, tx.Commit(t.Context()))
	if n := s.bare(x); n != 0 {
		t.Errorf("%d rows lack their token", n)
	}
	if n := testenv.One[int](t, s, `SELECT count(*) FROM users WHERE octet_length(email_bidx) <> 16`); n != 0 {
		t.Errorf("%d tokens are not of their length", n)
	}
	conditions := must(a.users[0].Tokens("email_bidx", "ada@example.org", nil))(t)
	if len(conditions) != 1 || conditions[0].Column != "email_bidx" || len(conditions[0].Tokens) != 1 {
		t.Errorf("conditions %d", len(conditions))
	}
	if _, err := a.users[0].Tokens("another", "a"); !errors.Is(err, token.ErrNoIndex) {
		t.Errorf("an index that there is not: %v", err)
	}
	if _, err := a.pool.Exec(t.Context(), `SELECT {email by another $1}`, a.users, "a"); !errors.Is(err, token.ErrNoIndex) {
		t.Errorf("an index that there is not: %v", err)
	}
}

// partedSQL is that table in parts: one has its columns at other numbers, one is parted again.
const partedSQL = `CREATE TABLE users (gone int, id bigint PRIMARY KEY, name text, email text, ssn text) PARTITION BY RANGE (id); ALTER TABLE users DROP COLUMN gone;
CREATE TABLE low (ssn text, junk int, email text, name text, id bigint NOT NULL); ALTER TABLE low DROP COLUMN junk; ALTER TABLE users ATTACH PARTITION low FOR VALUES FROM (0) TO (10);
CREATE TABLE high PARTITION OF users FOR VALUES FROM (10) TO (100) PARTITION BY HASH (id); CREATE TABLE high_0 PARTITION OF high FOR VALUES WITH (MODULUS 1, REMAINDER 0)`

// TestAClientFindsByTokensInEveryPartition: in those that come later too, and rows that it moves from one to another, before and after the cutover.
func TestAClientFindsByTokensInEveryPartition(t *testing.T) {
	t.Parallel()
	s := open(t, partedSQL)
	s.register()
	s.dualWrite()
	x := s.index(1, cell.NormaliseLowerTrim, lifecycle.IndexReady)
	a := s.app(s.still())
	for id, mail := range map[int]string{1: "Ada@Example.org", 11: "ada@example.ORG", 2: "bob@example.org", 3: "carol@example.org", 4: "moved by hand"} {
		a.mustWrite(insertSQL, id, mail)
	}
	a.finds("ada@example.org", 1, 11)
	s.Run(t, `CREATE TABLE late (LIKE users INCLUDING CONSTRAINTS); ALTER TABLE users ATTACH PARTITION late FOR VALUES FROM (200) TO (300)`)
	a.mustWrite(insertSQL, 201, "ada@example.org ")
	a.finds("ada@example.org", 1, 11, 201)
	moves := func(from, to int) {
		t.Helper()
		tx := must(a.pool.Begin(t.Context()))(t)
		defer tx.Rollback(t.Context()) //nolint:errcheck // it is committed
		check(t, a.users.Rebind(t.Context(), tx, client.Key{from}, client.Key{to}))
		check(t, tx.Commit(t.Context()))
	}
	moves(2, 12)
	a.finds("bob@example.org", 12)
	a.mustWrite(`UPDATE users SET id = $3, {email = $2 key $3} WHERE id = $1`, 3, "carol@elsewhere.org", 13)
	a.finds("carol@elsewhere.org", 13)
	a.finds("carol@example.org")
	a.mustWrite(`UPDATE users SET {email = $2 key $1} WHERE id = $1`, 13, "carol@example.org")
	a.finds("carol@elsewhere.org")
	var found []int64
	for _, from := range []string{"users", "high", "high_0"} {
		rows := must(a.pool.Query(t.Context(), `SELECT id FROM `+from+` WHERE {email by email_bidx $1} AND id < 100 ORDER BY id DESC LIMIT 1`, a.users, "ada@example.org"))(t)
		found = append(found, must(pgx.CollectRows(rows, pgx.RowTo[int64]))(t)...)
	}
	if fmt.Sprint(found) != "[11 11 11]" {
		t.Errorf("by the names of partitions: %v", found)
	}
	s.Run(t, `UPDATE users SET id = 14 WHERE id = 4`)
	a.finds("moved by hand")
	s.backfill()
	s.cutOver("email_plaintext")
	check(t, a.c.Refresh(t.Context()))
	moves(12, 202)
	moves(11, 5)
	a.finds("bob@example.org", 202)
	a.finds("ada@example.org", 1, 5, 201)
	s.Run(t, `ALTER TABLE users DETACH PARTITION low`)
	a.finds("ada@example.org", 201)
	if n := s.bare(x); n != 1 {
		t.Errorf("%d rows lack their token", n)
	}
}

// TestATokenDoesNotOutliveItsValue whoever writes.
func TestATokenDoesNotOutliveItsValue(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	old := s.app(s.still()) // knows of no index
	x := s.index(1, cell.NormaliseExact, lifecycle.IndexReady)
	a := s.app(s.still())
	for id := range 8 {
		a.mustWrite(insertSQL, id, fmt.Sprintf("mail %d", id))
	}
	if n := s.bare(x); n != 0 {
		t.Fatalf("%d rows lack their token", n)
	}
	uncovered := func(what string, want int) {
		t.Helper()
		if n := s.bare(x); n != want {
			t.Errorf("%s: %d rows lack their token, want %d", what, n, want)
		}
	}
	old.mustWrite(`UPDATE users SET {email = $2 key $1} WHERE id = $1`, 0, "another")
	uncovered("a client that is behind changes a value", 1)
	a.finds("mail 0")
	old.mustWrite(insertSQL, 9, "mail 9")
	uncovered("a client that is behind adds a row", 2)
	s.Run(t, `UPDATE users SET email = 'by hand' WHERE id = 1`)
	if n := testenv.One[int](t, s, `SELECT count(*) FROM users WHERE id = 1 AND email_encrypted IS NULL AND email_bidx IS NULL`); n != 1 {
		t.Error("a value changed without its cell kept a token")
	}
	s.Run(t, `UPDATE users SET name = 'x' WHERE id = 2; UPDATE users SET email = email WHERE id = 2`)
	a.finds("mail 2", 2)
	s.Run(t, `UPDATE users SET email_bidx = (SELECT email_bidx FROM users WHERE id = 3) WHERE id = 2`)
	a.finds("mail 3", 3)
	uncovered("a token that nobody made of the value", 3)
	s.Run(t, `INSERT INTO users (id, email, email_encrypted, email_bidx) SELECT 20, email, email_encrypted, email_bidx FROM users WHERE id = 3`)
	a.finds("mail 3", 3)
	s.Run(t, `UPDATE users SET email_encrypted = NULL WHERE id = 4`)
	a.finds("mail 4")
	if n := testenv.One[int](t, s, ddl.TokenMissed(x.ID)); n != 3 {
		t.Errorf("%d rows were counted", n)
	}
	for _, wrong := range []string{`'\x00'`, `'\x0102030405060708090a0b0c0d0e0f101112'`} {
		if _, err := s.Exec(t.Context(), `UPDATE users SET email_bidx = `+wrong+` WHERE id = 5`); err != nil {
			t.Errorf("what is no token fails its writer: %v", err)
		}
	}
	a.finds("mail 5")
	s.Run(t, `ALTER TABLE users RENAME email_bidx TO tokens`)
	must(s.Exec(t.Context(), `UPDATE users SET email_encrypted = email_encrypted || '\x00' WHERE id = 6`))(t)
	if n := testenv.One[int](t, s, `SELECT count(*) FROM users WHERE id = 6 AND tokens IS NULL`); n != 1 {
		t.Error("under another name a token outlived its cell")
	}
	check(t, a.c.Refresh(t.Context()))
	s.Run(t, `ANALYZE users`)
	again := s.app(s.still())
	again.mustWrite(`UPDATE users SET {email = $2 key $1} WHERE id = $1`, 7, "renamed")
	again.finds("renamed", 7)
}

// TestAnIndexComesAndGoesUnderRunningClients and its generations are both written, and both looked up in.
func TestAnIndexComesAndGoesUnderRunningClients(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	first := s.index(1, cell.NormaliseExact, lifecycle.IndexFilling)
	a := s.app(s.still())
	a.mustWrite(insertSQL, 1, "mail 1")
	if _, err := a.users[0].Tokens("email_bidx", "mail 1"); !errors.Is(err, token.ErrNoIndex) {
		t.Errorf("while it is filled: %v", err)
	}
	s.move(first, lifecycle.IndexReady)
	second := s.index(2, cell.NormaliseExact, lifecycle.IndexFilling)
	check(t, a.c.Refresh(t.Context()))
	a.mustWrite(insertSQL, 2, "mail 2")
	a.finds([]string{"mail 1", "mail 2"}, 1, 2)
	if n := s.bare(second); n != 1 {
		t.Errorf("%d rows lack the token of the second generation", n)
	}
	a.mustWrite(`UPDATE users SET {email = $2 key $1} WHERE id = $1`, 1, "mail 1")
	s.move(second, lifecycle.IndexReady)
	check(t, a.c.Refresh(t.Context()))
	if c := must(a.users[0].Tokens("email_bidx", "mail 1"))(t); len(c) != 2 || c[0].Column != "email_bidx" || c[1].Column != "email_bidx_2" {
		t.Errorf("%d conditions", len(c))
	}
	s.move(first, lifecycle.IndexRetiring)
	drop := func() error {
		r := blind.Registrar{Registrar: lifecycle.Registrar{DB: s.DB.DB, KEK: s.kek}}
		return s.InTx(t.Context(), func(tx pg.Tx) error {
			if err := r.Move(t.Context(), tx, first.ID, lifecycle.IndexDropped); err != nil {
				return err
			}
			for _, sql := range s.tokens(first).Drop() {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var late *lifecycle.NotReadyError
	if err := drop(); !errors.As(err, &late) {
		t.Errorf("while a client works with it: %v", err)
	}
	a.mustWrite(insertSQL, 3, "mail 3") // it has not heard, and the column is there
	check(t, a.c.Refresh(t.Context()))
	check(t, drop())
	a.mustWrite(insertSQL, 4, "mail 4")
	a.finds([]string{"mail 1", "mail 2", "mail 3", "mail 4"}, 1, 2, 3, 4)
	if wrapped := testenv.One[int](t, s, `SELECT count(*) FROM cipherfleet.deks WHERE blind_index = $1 AND wrapped IS NOT NULL`, first.ID); wrapped != 0 {
		t.Error("its key is there")
	}
	s.kek.class.Store(cell.KEKDenied)
	check(t, a.c.Refresh(t.Context()))
}

// TestARoleThatMayNotWriteTokensWritesItsValues and one that may not know of indexes too.
func TestARoleThatMayNotWriteTokensWritesItsValues(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	x := s.index(1, cell.NormaliseExact, lifecycle.IndexReady)
	const rights = `GRANT SELECT, INSERT (id, name, email, email_encrypted), UPDATE (email, email_encrypted) ON users TO app`
	s.pool = s.as("clerk", grantsSQL, `GRANT SELECT ON cipherfleet.blind_indexes TO app`, rights)
	a := s.app(s.still())
	a.mustWrite(insertSQL, 1, "mail 1")
	if n := s.bare(x); n != 1 {
		t.Errorf("%d rows lack their token", n)
	}
	s.pool = s.as("stranger", grantsSQL, rights)
	b := s.app(s.still())
	b.mustWrite(insertSQL, 2, "mail 2")
	if _, err := b.users[0].Tokens("email_bidx", "mail 1"); !errors.Is(err, token.ErrNoIndex) {
		t.Errorf("who may not know of it: %v", err)
	}
}

// TestATokenGoesBesideACellThatIsAnArgument, in pgx and in database/sql; a cell without it leaves its row to the fleet, and
// the client says so.
func TestATokenGoesBesideACellThatIsAnArgument(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	x := s.index(1, cell.NormaliseExact, lifecycle.IndexReady)
	s.run(append(s.column().Capture().Undo, `ALTER TABLE users DROP COLUMN email`, `ALTER TABLE users RENAME email_encrypted TO email`))
	s.column().Target = "email"
	var log strings.Builder
	a := s.app(s.still(func(c *client.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }))
	db := stdlib.OpenDB(*must(pgx.ParseConfig(s.URL))(t))
	defer db.Close() //nolint:errcheck // the test is over
	const insert = `INSERT INTO users (id, email, email_bidx) VALUES ($1, $2, $3)`
	for id, mail := range []string{"mail 0", "", "mail 2"} {
		c := client.In[string](a.users[0], id).Set(mail)
		must(s.pool.Exec(t.Context(), insert, id, c, c.Token("email_bidx")))(t)
		c = client.In[string](a.users[0], id+10).Set(mail)
		must(db.ExecContext(t.Context(), insert, id+10, c, c.Token("email_bidx")))(t)
		a.finds(mail, int64(id), int64(id+10))
	}
	nobody := client.In[string](a.users[0], 20)
	must(s.pool.Exec(t.Context(), insert, 20, nobody, nobody.Token("email_bidx")))(t)
	changed := client.In[string](a.users[0], 2).Set("changed")
	must(s.pool.Exec(t.Context(), `UPDATE users SET email = $2, email_bidx = $3 WHERE id = $1`, 2, changed, changed.Token("email_bidx")))(t)
	a.finds("changed", 2)
	a.finds("mail 2", 12)
	if n := s.bare(x); n != 0 || log.Len() > 0 {
		t.Errorf("%d rows lack their token; %s", n, log.String())
	}
	if _, err := s.pool.Exec(t.Context(), insert, 21, changed, changed.Token("another")); !errors.Is(err, token.ErrNoIndex) {
		t.Errorf("a column that there is not: %v", err)
	}
	for id := range 3 {
		must(s.pool.Exec(t.Context(), `UPDATE users SET email = $2 WHERE id = $1`, id, client.In[string](a.users[0], id).Set("bare")))(t)
	}
	if n := s.bare(x); n != 3 || strings.Count(log.String(), "without the tokens") != 1 {
		t.Errorf("%d rows lack their token; %s", n, log.String())
	}
}

// TestAnEmptyTextIsFound as any other value is.
func TestAnEmptyTextIsFound(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	s.dualWrite()
	x := s.index(1, cell.NormaliseExact, lifecycle.IndexReady)
	a := s.app(s.still())
	a.mustWrite(insertSQL, 1, "")
	a.mustWrite(insertSQL, 2, nil)
	a.finds("", 1)
	if n := s.bare(x); n != 0 {
		t.Errorf("%d rows lack their token", n)
	}
}
