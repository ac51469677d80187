package client_test

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
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
