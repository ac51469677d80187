package backfill

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// rowsKey counts rows on a span. Attributes never hold a key or a value.
const rowsKey = attribute.Key("cipherfleet.chunk.rows")

// spanned runs f inside a span; an error marks the span, by its class and not by its text.
func spanned(ctx context.Context, tracer trace.Tracer, name string, f func(context.Context) error, attributes ...attribute.KeyValue) error {
	ctx, span := tracer.Start(ctx, name, trace.WithAttributes(attributes...))
	defer span.End()
	err := f(ctx)
	if err != nil {
		span.SetStatus(codes.Error, ErrorClass(err))
	}
	return err
}
