package client_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// customer writes rows of its own all the time, by every kind of statement, and remembers what was acknowledged.
type customer struct {
	app
	first, rows int64
	last        map[int64]string
}

func (c *customer) shopAt(ctx context.Context, n int) error {
	id := c.first + int64(n)%c.rows
	value := fmt.Sprintf("value %d of row %d", n, id)
	err := c.c.Do(ctx, func(ctx context.Context) error {
		switch n % 4 {
		case 0:
			_, err := c.pool.Exec(ctx, upsertSQL, c.users, id, value)
			return err
		case 1:
			batch := &pgx.Batch{}
			batch.Queue(upsertSQL, c.users, id, value)
			return c.pool.SendBatch(ctx, batch).Close()
		}
		return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO users (id) VALUES ($1) ON CONFLICT DO NOTHING`, id); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, updateSQL, c.users, id, value)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	c.last[id] = value
	have, err := c.read(id)
	if err != nil || text(have) != value {
		return fmt.Errorf("row %d: read %s, %w, want %s", id, text(have), err, value)
	}
	return nil
}

// TestAWholeLifeUnderTraffic: customers with clients that hear, that poll and that do neither write and read while the
// column goes up to its cutover, back, up again and loses its plaintext, and a scheme comes. None sees an error, and
// every value is there at the end.
func TestAWholeLifeUnderTraffic(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	clients := []*client.Client{s.client(), s.still(), s.client(func(c *client.Config) { c.Poll, c.Migrate = 20e6, 50 })}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	var written atomic.Int64
	customers := make([]*customer, 2*len(clients))
	failed := make(chan error, len(customers))
	for i := range customers {
		customers[i] = &customer{app: s.app(clients[i%len(clients)]), first: int64(1000 * i), rows: 10, last: map[int64]string{}}
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := customers[i].shopAt(t.Context(), n); err != nil {
					failed <- err
					return
				}
				written.Add(1)
			}
		})
	}
	going := func() {
		t.Helper()
		until := written.Load() + 60
		testenv.Eventually(t, patience, func() error {
			if n := written.Load(); n < until && len(failed) == 0 {
				return fmt.Errorf("%d writes", n)
			}
			return nil
		})
	}
	for _, phase := range phases() {
		phase.move(s)
		if going(); len(failed) > 0 {
			t.Fatalf("%s: %v", phase.name, <-failed)
		}
	}
	check(t, clients[1].Refresh(t.Context()))
	scheme := s.next()
	check(t, clients[1].Refresh(t.Context()))
	s.ready(scheme)
	going()
	stop()
	group.Wait()
	if len(failed) > 0 {
		t.Fatal(<-failed)
	}
	judge := s.app(s.still())
	for _, c := range customers {
		for id, want := range c.last {
			judge.wants(id, want)
		}
	}
}
