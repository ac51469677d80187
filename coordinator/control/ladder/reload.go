package ladder

import (
	"context"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const reloadTime = 10 * time.Second

// ReloadProxy tells EQL's encrypting proxy, to which the URL leads, to read its configuration again. On a connection
// that does not go through a proxy that does nothing.
func ReloadProxy(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	db, err := pg.Open(ctx, url, pg.Options{AppName: "cipherfleet", MaxConns: 1, Abroad: true})
	if err != nil {
		return fmt.Errorf("reach the proxy: %w", err)
	}
	defer db.Close()
	if _, err := db.Exec(ctx, `SELECT eql_v2.reload_config()`); err != nil {
		return fmt.Errorf("have the proxy reload: %w", err)
	}
	return nil
}
