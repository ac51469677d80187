package client_test

import (
	"context"
	"fmt"
	"log"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/client"
)

// register is what an application does in each phase of its column users.email, with the same code.
func register(ctx context.Context, pool *pgxpool.Pool, c *client.Client) (mail string, err error) {
	users, err := c.Table(ctx, "public.users", "email")
	if err != nil {
		return "", err
	}
	keys, err := c.Block("public.users", "id", 100)
	if err != nil {
		return "", err
	}
	id, err := keys.Next(ctx)
	if err != nil {
		return "", err
	}
	err = c.Do(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO users (id, name, {email ...}) VALUES ($1, $2, {email $3 key $1})`, users, id, "Alice", "alice@exmaple.com")
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `UPDATE users SET {email = $2 key $1} WHERE id = $1`, users, id, "alice@example.com")
			return err
		})
	})
	if err != nil {
		return "", err
	}
	err = pool.QueryRow(ctx, `SELECT id, {email} FROM users WHERE id = $1`, users, id).Scan(users.Row(&id, &mail))
	return mail, err
}

// A client reads and writes a column in whatever phase it is, and follows it to the next one.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://localhost/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	kek, err := kms.Open(ctx, "file:cipherfleet.kek.json", "")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.Open(ctx, pool, client.Config{KEK: kek, Name: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx) //nolint:errcheck // the lease would run out by itself
	mail, err := register(ctx, pool, c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(mail)
}

// Rows go into structs as ever.
func ExampleColumns_Query() {
	type user struct {
		ID    int64
		Email *string
	}
	list := func(ctx context.Context, pool *pgxpool.Pool, users client.Columns) ([]user, error) {
		rows, err := users.Query(ctx, pool, `SELECT id, {email} FROM users WHERE name = $1`, "Alice")
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowToStructByName[user])
	}
	_ = list
}

// TestTheExample runs what Example shows, in each phase.
func TestTheExample(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	for _, phase := range phases() {
		phase.move(s)
		if mail, err := register(t.Context(), s.pool, s.still()); err != nil || mail != "alice@example.com" {
			t.Errorf("%s: %q, %v", phase.name, mail, err)
		}
	}
}
