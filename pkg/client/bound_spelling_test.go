package client_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// A number that this session prints in its own way is no part of an address: no cell that is bound to it is sealed for that
// text, also where Postgres sends nothing but text.
func TestWhatASessionPrintsInItsOwnWayIsNoPartOfAnAddress(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text, firm float8 NOT NULL, fine bool NOT NULL DEFAULT true)`)
	s.register()
	s.dualWrite()
	s.backfill()
	s.cutOver("email_plaintext")
	s.drop()
	s.pool = s.connect(s.URL + "&default_query_exec_mode=simple_protocol&extra_float_digits=0")
	a := s.app(s.idle(migrating))
	must(s.pool.Exec(ctx, `INSERT INTO users (id, firm, {email ...}) VALUES ($1, 0.1::float8 + 0.2::float8, {email $2 key $1})`, a.users, 1, "mail"))(t)
	for _, c := range []struct {
		name string
		part string // of an address, as docs/envelope.md has it; "": none is made
	}{{"firm", ""}, {"fine", "\x00\x01o\x00\x00\x00\x01t"}} {
		before := s.schemes["email"]
		scheme := s.next(s.to(c.name))
		check(t, a.c.Refresh(ctx))
		s.activate(scheme)
		check(t, a.c.Refresh(ctx))
		var email string
		check(t, s.pool.QueryRow(ctx, `SELECT id, firm, fine, {email} FROM users`, a.users).Scan(a.users.Row(nil, nil, nil, &email)))
		err := a.c.MigrateOne(ctx)
		if c.part == "" {
			if _, wrote := s.pool.Exec(ctx, `UPDATE users SET {email = $2 with `+c.name+` $3} WHERE id = $1`, a.users, 1, "x", "1"); !errors.Is(err, client.ErrValue) || !errors.Is(wrote, client.ErrValue) || s.scheme(1) != before.Number {
				t.Errorf("a row that is bound to %s: %v, %v", c.name, err, wrote)
			}
			continue
		}
		sealed := testenv.One[[]byte](t, s, `SELECT email FROM users`)
		a := cell.Address{Column: scheme.Column, Bound: []cell.Bound{{Columns: scheme.Columns, Key: []byte(c.part)}}}
		if _, _, opens := must(testenv.LoadKeyring(ctx, s, s.kek))(t).Open(nil, a, sealed); errors.Join(err, opens) != nil {
			t.Errorf("a row that is bound to %s: %v, %v", c.name, err, opens)
		}
	}
}

// What an application says of a bound column is what Postgres makes of it: however it spells a value, the cell opens as
// the fleet reads the row, and so does the application's own way to read it, in a session of its own habits.
func TestABoundValueIsWhatPostgresMakesOfIt(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 5*3600+1800)
	for name, c := range map[string]struct {
		typ   string
		value any
	}{
		"int from int8":             {"int", int64(7)},
		"a negative bigint":         {"bigint", int64(-1 << 63)},
		"a uuid in capitals":        {"uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"},
		"decomposed text":           {"text", "e\u0301"},
		"empty text":                {"text", ""},
		"loose text":                {`text COLLATE loose`, "ÄB"},
		"varchar with blanks":       {"varchar(3)", "ab     "},
		"char with blanks":          {"char(5)", "ab "},
		"citext":                    {"citext", "aB"},
		"bytea":                     {"bytea", []byte{0, '\\', 0xff}},
		"a date":                    {"date", time.Date(1900, 2, 28, 23, 59, 0, 0, zone)},
		"a date before Christ":      {"date", pgtype.Date{InfinityModifier: pgtype.NegativeInfinity, Valid: true}},
		"a timestamp":               {"timestamp", time.Date(2024, 2, 29, 1, 2, 3, 456789000, time.UTC)},
		"a timestamptz":             {"timestamptz", time.Date(2024, 10, 27, 2, 30, 0, 1000, zone)},
		"a rounded timestamptz":     {"timestamptz(3)", time.Date(2024, 12, 31, 23, 59, 59, 999600000, time.UTC)},
		"a scaled numeric":          {"numeric(10,2)", "1.005"},
		"a numeric without a scale": {"numeric", "0001.500"},
		"a negative zero":           {"numeric", "-0.00"},
		"a power":                   {"numeric", "1e3"},
		"a bool":                    {"bool", true},
		"an enum":                   {"mood", "so so"},
		"a domain over text":        {"label", "  x "},
		"a domain over numeric":     {"amount", "7.25"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := open(t, `CREATE EXTENSION citext; CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TYPE mood AS ENUM ('so so');
CREATE DOMAIN label AS varchar(9); CREATE DOMAIN amount AS numeric(6,1); CREATE TABLE users (id bigint PRIMARY KEY, email text, "of_it" `+c.typ+` NOT NULL)`)
			s.register()
			s.dualWrite()
			s.backfill()
			s.cutOver("email_plaintext")
			s.drop()
			s.pool = s.connect(s.URL + "&timezone=Asia/Kolkata&datestyle=SQL,DMY&extra_float_digits=0&bytea_output=escape")
			a, bind := s.app(s.still()), s.to("of_it")
			scheme := s.next(bind)
			check(t, a.c.Refresh(ctx))
			s.activate(scheme)
			check(t, a.c.Refresh(ctx))
			must(s.pool.Exec(ctx, `INSERT INTO users (id, "of_it", {email ...}) VALUES (1, $2, {email $1 with of_it $2})`, a.users, "mail", c.value))(t)
			relation := must(pg.Inspect(ctx, s, "public", "users"))(t)
			as := must(bound.Of(relation, scheme.Columns))(t)
			check(t, s.InTx(ctx, func(tx pg.Tx) error {
				must(tx.Exec(ctx, pg.Pinned))(t)
				rows := must(tx.Query(ctx, `SELECT "of_it", email FROM users`, pgx.QueryResultFormats{int16(as.Keys.Wire(0)), 1}))(t)
				defer rows.Close()
				rows.Next()
				raw := rows.RawValues()
				part := must(as.Keys.Append(nil, raw[:1]))(t)
				at := cell.Address{Column: scheme.Column, Bound: []cell.Bound{{Columns: scheme.Columns, Key: part}}}
				_, _, err := must(testenv.LoadKeyring(ctx, s, s.kek))(t).Open(nil, at, raw[1])
				return err
			}))
			var email string
			check(t, s.pool.QueryRow(ctx, `SELECT id, "of_it", {email} FROM users`, a.users).Scan(a.users.Row(nil, nil, &email)))
			check(t, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
				return a.users.RebindWith(ctx, tx, client.Key{1}, map[string]any{"of_it": c.value})
			}))
			check(t, s.pool.QueryRow(ctx, `SELECT id, "of_it", {email} FROM users`, a.users).Scan(a.users.Row(nil, nil, &email)))
		})
	}
}
