package client

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// OpenStill is a client that hears nothing and polls nothing: it learns only what Refresh and its own statements teach it.
func OpenStill(ctx context.Context, pool *pgxpool.Pool, config Config) (*Client, error) {
	c, err := prepare(ctx, pool, config)
	if err != nil {
		return nil, err
	}
	c.start(func() { c.lazy.run(c.end) })
	return c, nil
}

// Migrated is how many rows reading has brought to the newest scheme, and how many were not as they had been read any more.
func (c *Client) Migrated() (done, lost int64) { return c.lazy.done.Load(), c.lazy.lost.Load() }
