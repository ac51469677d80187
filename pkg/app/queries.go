package app

import (
	"context"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Queries traces statements for a pool: their text, never their parameters, and of an error only what cannot quote a
// value. It is nil when traces are off.
func (t *Traces) Queries() pgx.QueryTracer {
	if !t.On() {
		return nil
	}
	return queries{otelpgx.NewTracer(
		otelpgx.WithTracerProvider(t.provider),
		otelpgx.WithDisableAcquireTracer(),
		otelpgx.WithDisableConnectionDetailsInAttributes(),
	)}
}

// queries stands before the tracer, which would copy the server's error messages into spans: they quote values.
type queries struct{ *otelpgx.Tracer }

func (q queries) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	data.Err = pg.Safe(data.Err)
	q.Tracer.TraceQueryEnd(ctx, conn, data)
}

func (q queries) TraceCopyFromEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	data.Err = pg.Safe(data.Err)
	q.Tracer.TraceCopyFromEnd(ctx, conn, data)
}

func (q queries) TraceBatchQuery(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchQueryData) {
	data.Args, data.Err = nil, pg.Safe(data.Err)
	q.Tracer.TraceBatchQuery(ctx, conn, data)
}

func (q queries) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	data.Err = pg.Safe(data.Err)
	q.Tracer.TraceBatchEnd(ctx, conn, data)
}

func (q queries) TracePrepareEnd(ctx context.Context, conn *pgx.Conn, data pgx.TracePrepareEndData) {
	data.Err = pg.Safe(data.Err)
	q.Tracer.TracePrepareEnd(ctx, conn, data)
}

func (q queries) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	data.Err = pg.Safe(data.Err)
	q.Tracer.TraceConnectEnd(ctx, data)
}
