package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/client/token"
)

// emailIndex is the blind index of rotations, and its column.
const emailIndex = "email_bidx"

// scribbler is the customer who writes half of its cells by statements of its own, without tokens.
const scribbler = 2

// searching is what a customer knows of the index.
type searching struct {
	sure map[int64]int // of rows that only it writes: the version whose token it sent
}

// ready says that what the customer writes has its token: its client knows of the index and where its tokens stand, which
// it learns one after the other.
func (c *customer) ready() bool {
	_, err := client.In[string](c.people[0], 0).Set("").Token(emailIndex).Value()
	return err == nil
}

// sent notes what became of rows that were written, with tokens or without.
func (s *searching) sent(ids []int64, versions map[int64]int, tokens bool) {
	if s.sure == nil {
		s.sure = map[int64]int{}
	}
	for _, id := range ids {
		delete(s.sure, id)
		if tokens {
			s.sure[id] = versions[id]
		}
	}
}

// scribble writes the cell of a row by a statement that knows of no token.
func (c *customer) scribble(ctx context.Context, id int64, value any) error {
	cell := client.In[any](c.people[0], id).Set(value)
	return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		sql, args := "UPDATE people SET "+c.Cells+" = $2 WHERE id = $1", []any{id, cell}
		if c.Cells != "email" { // plaintext is the truth still, and is written beside its cell
			if _, err := tx.Exec(ctx, `SELECT set_config('cipherfleet.writer', 'client', true)`); err != nil {
				return err
			}
			sql, args = "UPDATE people SET "+c.Cells+" = $2, email = $3 WHERE id = $1", append(args, value)
		}
		tag, err := tx.Exec(ctx, sql, args...)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("an update of %d rows", tag.RowsAffected())
		}
		return err
	})
}

// lookUp looks for a row by a value that it has, or had once: what is found has that value, and what was written with its
// token is found.
func (c *customer) lookUp(ctx context.Context, id int64) error {
	version := c.versions[id]
	if version > 0 && c.chance.IntN(3) == 0 {
		version-- // a token that outlived its value would find the row
	}
	value := portrait(c.Seed, id, version)
	var found []int64
	err := c.client.Do(ctx, func(ctx context.Context) error {
		found = found[:0]
		rows, err := c.people.Query(ctx, c.pool, `SELECT id, {email} FROM people WHERE {email by `+emailIndex+` $1}`, value)
		if err != nil {
			return err
		}
		var at int64
		var holds string
		_, err = pgx.ForEachRow(rows, []any{&at, &holds}, func() error {
			if found = append(found, at); at != id || holds != value {
				return fmt.Errorf("row %d is found by a value of row %d that it has not", at, id)
			}
			return nil
		})
		return err
	})
	if errors.Is(err, token.ErrNoIndex) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look row %d up: %w", id, err)
	}
	if last, sure := c.tokens.sure[id]; sure && last == version && len(found) != 1 {
		return fmt.Errorf("row %d was written with its token, version %d, and is found %d times by it", id, version, len(found))
	}
	return nil
}
