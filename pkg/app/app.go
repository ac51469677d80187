// Package app is what every program opens before its work and closes after it: configuration, log, traces, health,
// the pool and the bus; and how it ends: signals, errors and exit codes. It alone reads the environment.
//
// A variable is one of the environment, named in one table with what it accepts. To drain is to finish what is in
// hand and begin nothing new; to cancel is to give up at the next safe point. A failure is an error that knows its
// exit code and, for the person at the terminal, a hint: what to do about it.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// OpenDatabase opens a pool of at most connections to the configured database, traced when traces are on. As name
// they show in pg_stat_activity.
func OpenDatabase(ctx context.Context, d Database, name string, connections int32, traces *Traces) (*pg.DB, error) {
	if err := d.need(); err != nil {
		return nil, err
	}
	return pg.Open(ctx, d.DatabaseURL.Raw(), pg.Options{AppName: name, MaxConns: connections, Tracer: traces.Queries()})
}

// OpenProxy prepares a pool of connections through the configured proxy, which connect when they are first used; nil:
// none is configured.
func OpenProxy(ctx context.Context, p Proxy, name string, connections int32, traces *Traces) (*pg.DB, error) {
	if p.ProxyURL == "" {
		return nil, nil
	}
	db, err := pg.Later(ctx, p.ProxyURL.Raw(), pg.Options{AppName: name, MaxConns: connections, Tracer: traces.Queries(), Abroad: true})
	if err != nil {
		return nil, fmt.Errorf("CIPHERFLEET_PROXY_URL: %w", err)
	}
	return db, nil
}

// Bus returns how to connect to the configured NATS under a name, trying for as long as patience to reach it.
func (n NATS) Bus(name string, patience time.Duration, logger *slog.Logger, traces *Traces) bus.Config {
	return bus.Config{
		URL: n.NATSURL.Raw(), Name: name, TokenFile: n.NATSTokenFile, Creds: n.NATSCreds, CA: n.NATSCA,
		Patience: patience, Logger: logger, Tracer: traces.Tracer(),
	}
}
