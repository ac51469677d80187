package client_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/client"
)

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text, "full name" text)`)
	s.register()
	s.dualWrite()
	c := s.still()
	users := s.users(c, "email", "full name")
	conn := must(pgx.Connect(t.Context(), s.URL))(t)
	defer conn.Close(t.Context()) //nolint:errcheck // the test is over
	const cellAt = `(SELECT $%::pg_catalog.bytea FROM pg_catalog.set_config('cipherfleet.writer', 'client', true))`
	for sql, want := range map[string]string{
		`SELECT id, {email} FROM users u`:                              `SELECT id, "email" FROM users u`,
		`SELECT u.{email}, u.{full name} FROM users u`:                 `SELECT u."email", u."full name" FROM users u`,
		`SELECT '{email}', "{email}", $a${email}$a$, E'\'{email}'`:     `SELECT '{email}', "{email}", $a${email}$a$, E'\'{email}'`,
		`SELECT 1 -- {email} $1` + "\n" + `/* {email} */, {ssn}, '{}'`: `SELECT 1 -- {email} $1` + "\n" + `/* {email} */, {ssn}, '{}'`,
		`SELECT $2, $1, $2`: `SELECT $1, $2, $1`,
		`INSERT INTO users (id, {email ...}) VALUES ($1, {email $2 key $1})`: `INSERT INTO users (id, "email", "email_encrypted") VALUES ($1, $2, ` + strings.ReplaceAll(cellAt, "%", "3") + `)`,
		`UPDATE users SET {email=$2 key $1}, name = $2 WHERE id = $1`:        `UPDATE users SET "email" = $1, "email_encrypted" = ` + strings.ReplaceAll(cellAt, "%", "2") + `, name = $3 WHERE id = $4`,
		`UPDATE users SET {full name = $2} WHERE id = $1`:                    `UPDATE users SET "full name" = $1 WHERE id = $2`,
		`ON CONFLICT (id) DO UPDATE SET {email = excluded}, x = $1, y = $2`:  `ON CONFLICT (id) DO UPDATE SET "email" = excluded."email", "email_encrypted" = excluded."email_encrypted", x = $1, y = $2`,
		"UPDATE users SET { email\n= $2\tkey $1 }":                           `UPDATE users SET "email" = $1, "email_encrypted" = ` + strings.ReplaceAll(cellAt, "%", "2"),
	} {
		var args []any
		if strings.Contains(want, "$1") && !strings.Contains(want, "--") {
			args = []any{1, "a@b"}
		}
		have, _, err := users.RewriteQuery(t.Context(), conn, sql, args)
		if err != nil || have != want {
			t.Errorf("%s\nhave %s (%v)\nwant %s", sql, have, err, want)
		}
	}
	for _, sql := range []string{`{email =}`, `{email = $1 key}`, `{email = $1, $2}`, `{email key $1}`, `{email = $1 key $2 tenant}`, `{email = $1 tenant $2 tenant $1}`,
		`{email = x}`, `{email .. }`, `{email = excluded.x}`, `{email = $1 key $2 lock $1}`} {
		if _, _, err := users.RewriteQuery(t.Context(), conn, sql, []any{1, 2}); !errors.Is(err, client.ErrStatement) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for sql, args := range map[string][]any{`SELECT $1`: {1, 2}, `SELECT $2`: {1}, `{email = $2 key $1}`: {1}, `{email = $1 key $2}`: {"a"}} {
		if _, _, err := users.RewriteQuery(t.Context(), conn, sql, args); err == nil {
			t.Errorf("%s with %d arguments", sql, len(args))
		}
	}
	if _, _, err := users.RewriteQuery(t.Context(), conn, `{email = $1}`, []any{"a"}); !errors.Is(err, client.ErrNoKey) {
		t.Errorf("a row-bound cell without its row: %v", err)
	}
}

func TestNamesOfTables(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE SCHEMA "Sh.op"; CREATE TABLE "Sh.op"."My ""users""" (id int PRIMARY KEY, email text); CREATE TABLE users (id int PRIMARY KEY, email text); CREATE VIEW v AS SELECT 1 AS email`)
	c := s.still()
	for _, name := range []string{`"Sh.op"."My ""users"""`, `public.users`, `PUBLIC.Users`, `"public".users`} {
		if _, err := c.Column(t.Context(), name, "email"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{`users`, `a.b.c`, ``, `.users`, `public.`, `"public.users`, `public.nothing`, `nowhere.users`, `public."Users"`} {
		if _, err := c.Column(t.Context(), name, "email"); err == nil {
			t.Errorf("%s was found", name)
		}
	}
	if _, err := c.Column(t.Context(), "public.users", "mail"); err == nil || !strings.Contains(err.Error(), "mail") {
		t.Errorf("a column that is not there: %v", err)
	}
	if report := c.Report(); len(report.Columns) != 2 {
		t.Errorf("what failed is kept, or what is the same twice: %+v", report.Columns)
	}
}
