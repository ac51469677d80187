// Package hint hears of changes of the registry as soon as Postgres tells of them.
//
// A hint says "look now", and nothing else: who hears none polls, and what counts is what the look finds. So one hint
// stands for all that came since the last look.
package hint

import (
	"context"
	"log/slog"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Listen turns notifications into hints until ctx ends, on a connection that it keeps. Whatever goes wrong is tried again
// at the pace of polling: a standby and a pooler hear nothing, and need not. hints has room for one.
func Listen(ctx context.Context, db *pg.DB, hints chan<- struct{}, poll time.Duration, log *slog.Logger) {
	if db.Pooled() {
		return // it would be somebody else who listens
	}
	for ctx.Err() == nil {
		if err := hear(ctx, db, hints); err != nil && ctx.Err() == nil {
			log.DebugContext(ctx, "nothing is heard of the registry; it is polled", "error", err)
		}
		pause := time.NewTimer(poll)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func hear(ctx context.Context, db *pg.DB, hints chan<- struct{}) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx)) // it would go on listening in the pool
	if _, err := conn.Exec(ctx, `LISTEN `+lifecycle.Channel); err != nil {
		return err
	}
	for {
		give(hints) // also once it listens: what happened before that was not heard
		if err := conn.Notified(ctx); err != nil {
			return err
		}
	}
}

func give(hints chan<- struct{}) {
	select {
	case hints <- struct{}{}:
	default: // one is waiting already
	}
}
