package pg

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Like opens a pool of its own to the database of another one, as the same role and by the same hooks, and proves with
// one round trip that the database answers. It keeps no connection open that it does not use.
func Like(ctx context.Context, pool *pgxpool.Pool, o Options) (*DB, error) {
	config := pool.Config()
	config.MinConns, config.MinIdleConns, config.MaxConns = 0, 0, cmp.Or(o.MaxConns, 4)
	config.ConnConfig.RuntimeParams["application_name"] = cmp.Or(o.AppName, "cipherfleet")
	config.ConnConfig.Tracer = o.Tracer
	own, err := newDB(ctx, config, o)
	if err != nil {
		return nil, err
	}
	if err := own.Ping(ctx); err != nil {
		own.Close()
		return nil, fmt.Errorf("reach Postgres: %w", err)
	}
	return own, nil
}
