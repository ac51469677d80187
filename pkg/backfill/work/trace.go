package work

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// TraceID is the id of the present trace as hex, or "".
func TraceID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}
