package control

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// traceParent is the present span in the form of W3C Trace Context, for the job's row; "" without a trace.
func traceParent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// withParent lets what follows belong to the job's trace, whichever coordinator began it.
func withParent(ctx context.Context, parent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
}
