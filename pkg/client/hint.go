package client

import (
	"context"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// listen turns notifications into hints, on a connection that it keeps. Whatever goes wrong is tried again at the pace
// of polling: a standby and a pooler hear nothing, and need not.
func (c *Client) listen(ctx context.Context, hints chan<- struct{}) {
	for ctx.Err() == nil {
		if err := c.hear(ctx, hints); err != nil && ctx.Err() == nil {
			c.config.Log.DebugContext(ctx, "nothing is heard of the registry; it is polled", "client", c.id, "error", err)
		}
		pause := time.NewTimer(c.config.Poll)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func (c *Client) hear(ctx context.Context, hints chan<- struct{}) error {
	conn, err := c.db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx)) // it would go on listening in the pool
	if _, err := conn.Exec(ctx, `LISTEN `+lifecycle.Channel); err != nil {
		return err
	}
	for {
		hint(hints) // also once it listens: what happened before that was not heard
		if err := conn.Notified(ctx); err != nil {
			return err
		}
	}
}

func hint(hints chan<- struct{}) {
	select {
	case hints <- struct{}{}:
	default: // one is waiting already
	}
}
