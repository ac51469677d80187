package client_test

import (
	"testing"
)

// However an application's session prints intervals and numbers, and though everything comes as text: its client reads
// the registry, writes, reads, and learns of the next scheme.
func TestASessionOfItsOwnHabitsReadsTheRegistry(t *testing.T) {
	t.Parallel()
	for _, intervals := range []string{"iso_8601", "sql_standard", "postgres_verbose"} {
		t.Run(intervals, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text)`)
			s.register()
			s.dualWrite()
			s.pool = s.connect(s.URL + "&default_query_exec_mode=simple_protocol&timezone=Asia/Kolkata&extra_float_digits=0&intervalstyle=" + intervals)
			a := s.app(s.idle())
			must(s.pool.Exec(ctx, `INSERT INTO users (id, {email ...}) VALUES ($1, {email $2 key $1})`, a.users, 1, "mail"))(t)
			scheme := s.next()
			check(t, a.c.Refresh(ctx))
			s.activate(scheme)
			check(t, a.c.Refresh(ctx))
			must(s.pool.Exec(ctx, `UPDATE users SET {email = $2 key $1} WHERE id = $1`, a.users, 1, "post"))(t)
			var email string
			check(t, s.pool.QueryRow(ctx, `SELECT id, {email} FROM users`, a.users).Scan(a.users.Row(nil, &email)))
			if email != "post" || s.scheme(1) != scheme.Number {
				t.Errorf("%q is sealed under scheme %d", email, s.scheme(1))
			}
		})
	}
}
