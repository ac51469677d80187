package client

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// OpenSQL is [Open] for an application of database/sql, whose driver must be pgx's (package stdlib). The client connects
// by itself, with the configuration of one of db's connections. Handles work as first arguments there too; a value is
// scanned into a [Cell].
func OpenSQL(ctx context.Context, db *sql.DB, config Config) (*Client, error) {
	like, err := poolLike(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("open a client: %w", err)
	}
	defer like.Close()
	return Open(ctx, like, config)
}

// poolLike is a pool that connects as db does; it is only a configuration.
func poolLike(ctx context.Context, db *sql.DB) (*pgxpool.Pool, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // it goes back to its pool
	var found *pgx.ConnConfig
	err = conn.Raw(func(driver any) error {
		own, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("the driver is a %T, not pgx's", driver)
		}
		found = own.Conn().Config()
		return nil
	})
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig("host=localhost") // a pool wants a configuration that was parsed; the next line replaces it
	if err != nil {
		return nil, err
	}
	config.ConnConfig = found
	return pgxpool.NewWithConfig(ctx, config)
}
