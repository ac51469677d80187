package client_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/client"
)

// BenchmarkRead is what a row costs beside one of plaintext, through the same pool: subtract the second from the first.
func BenchmarkRead(b *testing.B) {
	s := sold(b, 10_000)
	s.Run(b, `CREATE TABLE plain AS SELECT id, 'user' || id || '@example.com' AS email FROM users; ANALYZE`)
	users := s.users(s.client())
	var id int64
	var email string
	for name, bench := range map[string]struct {
		sql  string
		args []any
		scan pgx.RowScanner
	}{
		"cells":     {`SELECT id, {email} FROM users`, []any{users}, users.Row(&id, &email)},
		"plaintext": {`SELECT id, email FROM plain`, nil, nil},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			into := []any{&id, &email}
			if bench.scan != nil {
				into = []any{bench.scan}
			}
			for read := 0; read < b.N; {
				rows := must(s.pool.Query(b.Context(), bench.sql, bench.args...))(b)
				for ; read < b.N && rows.Next(); read++ {
					check(b, rows.Scan(into...))
				}
				rows.Close()
			}
		})
	}
}

// BenchmarkRewrite is what a statement costs before it is sent: names, one value and its cell.
func BenchmarkRewrite(b *testing.B) {
	s := sold(b, 1)
	users := s.users(s.client())
	conn := must(pgx.Connect(b.Context(), s.URL))(b)
	defer conn.Close(b.Context()) //nolint:errcheck // the bench is over
	for name, args := range map[string]struct {
		sql  string
		args []any
	}{"read": {selectSQL, []any{1}}, "write": {updateSQL, []any{1, "alice@example.com"}}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := users.RewriteQuery(b.Context(), conn, args.sql, args.args); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCell opens one cell outside of any row.
func BenchmarkCell(b *testing.B) {
	s := sold(b, 1)
	email := s.users(s.client())[0]
	sealed := must(client.In[string](email, 1).Set("alice@example.com").Value())(b)
	for name, f := range map[string]func() error{
		"open": func() error { return client.In[string](email, 1).Scan(sealed) },
		"seal": func() error { _, err := client.In[string](email, 1).Set("alice@example.com").Value(); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
