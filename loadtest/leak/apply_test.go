package leak

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/client"
)

// apply is an application with a client, which does everything wrong that it can: what the client logs and what it
// answers is kept with what the programs have said.
func (w *world) apply() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	log := filepath.Join(w.logs, fmt.Sprintf("%03d-client.log", len(w.said)))
	file, err := os.Create(log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it was written
	w.said = append(w.said, log)
	kek, err := kms.Open(ctx, "file:"+w.kekFile, "")
	if err != nil {
		w.t.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, w.db.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer pool.Close()
	c, err := client.Open(ctx, pool, client.Config{KEK: kek, Name: "shop", Migrate: 1e6, Log: slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		w.t.Fatal(err)
	}
	people, err := c.Table(ctx, "public.people", "email", "note")
	if err != nil {
		w.t.Fatal(err)
	}
	for name, wrong := range w.mistakes(c, people, pool) {
		err := wrong(ctx)
		if err == nil {
			w.t.Errorf("%s: nothing is wrong with it", name)
		}
		_, _ = fmt.Fprintf(file, "%s: %v\n%+v\n", name, err, err) // a file that cannot be written has nothing in it
	}
	_, _ = fmt.Fprintf(file, "%+v\n%+v\n", c.Report(), c) // what is redacted prints so however deep it stands
	if err := c.Close(ctx); err != nil {
		w.t.Error(err)
	}
}

// mistakes are what an application does wrong with marked values, rows and cells.
func (w *world) mistakes(c *client.Client, people client.Columns, pool *pgxpool.Pool) map[string]func(context.Context) error {
	row, value := w.keyMark+"-11", w.plainMark+"-new"
	sealed := func(ctx context.Context, id string) (cell []byte) {
		if err := pool.QueryRow(ctx, `SELECT email_encrypted FROM people WHERE id = $1`, id).Scan(&cell); err != nil {
			w.t.Error(err)
		}
		return cell
	}
	exec := func(sql string, args ...any) func(context.Context) error {
		return func(ctx context.Context) error {
			return c.Do(ctx, func(ctx context.Context) error {
				_, err := pool.Exec(ctx, sql, append([]any{people[:1]}, args...)...)
				return err
			})
		}
	}
	const update = `UPDATE people SET {email = $2 key $1} WHERE id = $1`
	return map[string]func(context.Context) error{
		"a zero byte":                exec(update, row, value+"\x00"),
		"no text at all":             exec(update, row, value+"\xff"),
		"another type":               exec(update, row, struct{ Value string }{value}),
		"no key":                     exec(`UPDATE people SET {email = $2} WHERE id = $1`, row, value),
		"a key of another type":      exec(update, []string{row}, value),
		"an argument too many":       exec(`UPDATE people SET {email = $2 key $1} WHERE id = $1`, row, value, value, row),
		"a placeholder that is none": exec(`UPDATE people SET {email = $9 key $1} WHERE id = $1`, row, value),
		"a value twice":              exec(update, row, w.plainMark+"-e12"),
		"a cell for a value":         func(ctx context.Context) error { return exec(update, row, sealed(ctx, row))(ctx) },
		"a tenant of another type": func(ctx context.Context) error {
			_, err := pool.Exec(ctx, `UPDATE people SET {note = $2 key $1 tenant $3} WHERE id = $1`, people[1:], row, value, struct{ Tenant string }{w.keyMark})
			return err
		},
		"another row's cell": func(ctx context.Context) error {
			return client.In[string](people[0], row).Scan(sealed(ctx, w.keyMark+"-12"))
		},
		"a damaged cell": func(ctx context.Context) error {
			cell := slices.Clone(sealed(ctx, row))
			cell[len(cell)-1] ^= 1
			return client.In[string](people[0], row).Scan(cell)
		},
		"a cell of a scheme that nobody has": func(ctx context.Context) error {
			cell := slices.Clone(sealed(ctx, row))
			cell[6] = 0x77
			return client.In[string](people[0], row).Scan(cell)
		},
		"a shredded tenant's cell": func(ctx context.Context) error {
			var note string
			return pool.QueryRow(ctx, `SELECT id, note_encrypted FROM people WHERE id = $1`, w.keyMark+"-1").Scan(people.Row(nil, &note))
		},
		"a value where none fits": func(ctx context.Context) error {
			var number int
			return pool.QueryRow(ctx, `SELECT id, email_encrypted FROM people WHERE id = $1`, row).Scan(people.Row(nil, &number))
		},
		"a copy that breaks off": func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := people[:1].Copy(ctx, tx, []string{"id", "email"}, pgx.CopyFromRows([][]any{{w.keyMark + "-new", value}, {w.keyMark + "-newer", value + "\x00"}}))
				return err
			})
		},
		"an index that is none": func(context.Context) error { _, err := people[0].Tokens("bidx", value); return err },
		"a lookup of no value": func(context.Context) error {
			_, err := people[0].Tokens("email_bidx", struct{ Value string }{value})
			return err
		},
		"a row that is none": func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				return people.Rebind(ctx, tx, client.Key{w.keyMark + "-none"}, client.Key{row})
			})
		},
	}
}
