package bus

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
)

// errLost says that the connection went while an answer was on its way.
var errLost = errors.New("the connection was lost")

// untilLost returns a context that also ends when the connection is lost, because the answer to a request that was
// sent then never comes. A request that begins without a connection waits for the next one, as ever.
func (b *Bus) untilLost(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(parent)
	cancel := func() { end(nil) }
	lost := b.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	if !b.nc.IsConnected() {
		b.nc.RemoveStatusListener(lost)
		return ctx, cancel
	}
	go func() {
		defer b.nc.RemoveStatusListener(lost)
		select {
		case <-lost:
			end(errLost)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// whyEnded is the loss of the connection, if that is what ended ctx and with it the operation; else err.
func whyEnded(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errLost) {
		return errLost
	}
	return err
}
