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

// OpenIdle is a still client that keeps what reading has found to migrate, until MigrateOne.
func OpenIdle(ctx context.Context, pool *pgxpool.Pool, config Config) (*Client, error) {
	return prepare(ctx, pool, config)
}

// Found is how many rows reading has found to migrate.
func (c *Client) Found() int { return len(c.lazy.queue) }

// MigrateOne migrates the row that was found first.
func (c *Client) MigrateOne(ctx context.Context) error { return c.lazy.migrate(ctx, <-c.lazy.queue) }

// Migrated is how many rows reading has brought to the newest scheme, and how many were not as they had been read any more.
func (c *Client) Migrated() (done, lost int64) { return c.lazy.done.Load(), c.lazy.lost.Load() }

// LookAt looks at a column for the first time, and says whether whoever looks next follows it, too.
func (c *Client) LookAt(ctx context.Context, table, name string) (followed bool, err error) {
	parsed, err := parseTable(table)
	if err != nil {
		return false, err
	}
	_, fresh := c.handles(parsed, []string{name})
	err = c.look(ctx, fresh)
	return c.opened().at(parsed, name) != nil, err
}
