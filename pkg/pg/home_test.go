package pg_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// misled opens a database whose search path leads to an operator and a function of somebody else's, before Postgres's
// own and behind them: the last operand fits theirs better.
func misled(t *testing.T) *pg.DB {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, `CREATE SCHEMA theirs; CREATE TABLE theirs.t (id int);
		CREATE FUNCTION theirs.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''theirs''; END';
		CREATE FUNCTION theirs.same(oid, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''theirs''; END';
		CREATE OPERATOR theirs.= (LEFTARG = oid, RIGHTARG = int, FUNCTION = theirs.same);
		CREATE FUNCTION theirs.notice() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO t SELECT 1; RETURN NEW; END';
		CREATE TABLE public.watched (id int PRIMARY KEY);
		CREATE TRIGGER noticed BEFORE INSERT ON public.watched FOR EACH ROW EXECUTE FUNCTION theirs.notice()`)
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("search_path", "theirs,pg_catalog")
	u.RawQuery = query.Encode()
	there := testenv.Open(t, u.String())
	if _, err := there.Exec(t.Context(), `SELECT now()`); pg.Code(err) != "P0001" {
		t.Fatalf("nothing misleads: %v", err)
	}
	return there.DB
}

const misleading = `SELECT count(now())::int FROM pg_class WHERE oid = 1259`

// TestStatementsAreAtHome: whatever a pool runs in a transaction means Postgres's own names.
func TestStatementsAreAtHome(t *testing.T) {
	t.Parallel()
	db := misled(t)
	ctx := t.Context()
	if _, err := db.Exec(ctx, misleading); err != nil {
		t.Errorf("Exec: %v", err)
	}
	if n := testenv.One[int](t, db, misleading); n != 1 {
		t.Errorf("QueryRow: %d", n)
	}
	if n := testenv.Column[int](t, db, misleading); len(n) != 1 || n[0] != 1 {
		t.Errorf("Query: %d", n)
	}
	conn, err := db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for name, begin := range map[string]func() (pg.Tx, error){
		"DB.Begin":   func() (pg.Tx, error) { return db.Begin(ctx) },
		"Conn.Begin": func() (pg.Tx, error) { return conn.Begin(ctx) },
	} {
		tx, err := begin()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := testenv.One[int](t, tx, misleading); n != 1 {
			t.Errorf("%s: %d", name, n)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheCatalogPrintsAtHomeWhatItAlwaysPrints: and a backslash in a statement is a backslash.
func TestTheCatalogPrintsAtHomeWhatItAlwaysPrints(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET quote_all_identifiers = on', current_database());
		EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off', current_database()); END $$`)
	there := testenv.Open(t, db.URL)
	const prints = `SELECT format_type(25, NULL) || '\1'`
	if text := testenv.One[string](t, there, prints); text == `text\1` {
		t.Fatalf("abroad it prints %s, too", text)
	}
	if text := testenv.One[string](t, there.DB, prints); text != `text\1` {
		t.Errorf("at home it prints %s", text)
	}
}

// TestReadingWritesNothing: and a standby refuses to begin anything that might.
func TestReadingWritesNothing(t *testing.T) {
	t.Parallel()
	db := misled(t)
	err := db.InReadTx(t.Context(), func(tx pg.Tx) error {
		if n := testenv.One[int](t, tx, misleading); n != 1 {
			t.Errorf("it is not at home: %d", n)
		}
		_, err := tx.Exec(t.Context(), `CREATE TABLE public.t (id int)`)
		return err
	})
	if pg.Code(err) != "25006" {
		t.Errorf("a transaction that reads wrote, or %v", err)
	}
}

// TestTriggersFireAbroad: a user's trigger may rely on the search path of its sessions.
func TestTriggersFireAbroad(t *testing.T) {
	t.Parallel()
	db := misled(t)
	ctx := t.Context()
	conn, err := db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	tx, err := conn.BeginAbroad(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // after a commit it does nothing
	if _, err := tx.Exec(ctx, `INSERT INTO public.watched VALUES (1)`); err != nil {
		t.Errorf("in a transaction abroad: %v", err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	home, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer home.Rollback(ctx) //nolint:errcheck // it is given up
	for _, sql := range []string{pg.Abroad, `INSERT INTO public.watched VALUES (2)`, pg.Home, misleading} {
		if _, err := home.Exec(ctx, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if _, err := home.Exec(ctx, `INSERT INTO public.watched VALUES (3)`); pg.Code(err) != "42P01" {
		t.Errorf("at home the trigger found its table: %v", err)
	}
}

// TestStatementsOfTheirOwnEnd: a statement outside of a transaction commits, leaves nothing open, and nothing of ours in
// the session, which a pooler may hand to somebody else.
func TestStatementsOfTheirOwnEnd(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	ctx := t.Context()
	before := testenv.One[string](t, db, `SHOW search_path`)
	if _, err := db.DB.Exec(ctx, `CREATE TABLE public.kept (id int PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	rows, err := db.DB.Query(ctx, `INSERT INTO public.kept SELECT i FROM generate_series(1, 3) i RETURNING id`)
	if err != nil {
		t.Fatal(err)
	}
	rows.Next() // the others are given up, and written all the same
	rows.Close()
	if n := testenv.One[int](t, db, `SELECT count(*)::int FROM public.kept`); n != 3 || rows.Err() != nil {
		t.Errorf("%d rows were kept: %v", n, rows.Err())
	}
	if n := testenv.One[int](t, db.DB, `INSERT INTO public.kept VALUES (4) RETURNING id`); n != 4 {
		t.Errorf("returned %d", n)
	}
	if _, err := db.DB.Exec(ctx, `INSERT INTO public.kept VALUES (5), (5)`); pg.Code(err) != "23505" {
		t.Errorf("a duplicate: %v", err)
	}
	if err := db.DB.QueryRow(ctx, `SELECT id FROM public.kept WHERE id = 6`).Scan(nil); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("no row: %v", err)
	}
	if _, err := db.DB.Query(ctx, `SELECT 1 FROM public.nowhere`); pg.Code(err) != "42P01" {
		t.Errorf("no table: %v", err)
	}
	if ids := testenv.Column[int](t, db, `SELECT id FROM public.kept ORDER BY id`); len(ids) != 4 {
		t.Errorf("in the table is %d", ids)
	}
	if n := testenv.One[int](t, db, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`); n != 0 {
		t.Errorf("%d transactions are left open", n)
	}
	conn, err := db.DB.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if after := testenv.One[string](t, conn, `SHOW search_path`); after != before {
		t.Errorf("the session's search path is %q, it was %q", after, before)
	}
}
