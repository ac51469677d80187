package testenv_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func provider(t *testing.T, receiver *testenv.Receiver, compression otlptracehttp.Compression) *sdktrace.TracerProvider {
	t.Helper()
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(receiver.URL+"/v1/traces"), otlptracehttp.WithCompression(compression))
	if err != nil {
		t.Fatal(err)
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "s"))))
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return p
}

func TestTheReceiverKeepsWhatWasSent(t *testing.T) {
	t.Parallel()
	receiver := testenv.OTLP(t)
	for _, compression := range []otlptracehttp.Compression{otlptracehttp.NoCompression, otlptracehttp.GzipCompression} {
		tracer := provider(t, receiver, compression).Tracer("test")
		ctx, other := tracer.Start(t.Context(), "other")
		_, linked := tracer.Start(ctx, "linked", trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)),
			trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithAttributes(attribute.String("a", "x"), attribute.Int("n", 7), attribute.Bool("b", true), attribute.Float64("f", 1.5)))
		linked.RecordError(errors.New("broken"))
		linked.SetStatus(codes.Error, "why")
		linked.End()
		_, child := tracer.Start(ctx, "child")
		child.End()
		other.End()

		inTrace := testenv.InTrace(other.SpanContext().TraceID().String())
		if got := receiver.Wait(t, time.Minute, 2, inTrace); len(got) != 2 || got[0].Parent != got[1].SpanID || got[1].Parent != "" {
			t.Errorf("the trace is %+v", got)
		}
		got := receiver.Wait(t, time.Minute, 1, testenv.All(testenv.Named("linked"), testenv.With("n", "7"),
			testenv.InTrace(linked.SpanContext().TraceID().String())))[0]
		if got.Service != "s" || got.Kind != "consumer" || !got.Failed || got.Message != "why" || got.Start.After(got.End) || len(got.Events) != 1 {
			t.Errorf("the span is %+v", got)
		}
		if got.Attributes["a"] != "x" || got.Attributes["b"] != "true" || got.Attributes["f"] != "1.5" {
			t.Errorf("the attributes are %v", got.Attributes)
		}
		if len(got.Links) != 1 || got.Links[0].SpanID != other.SpanContext().SpanID().String() || got.Links[0].TraceID != other.SpanContext().TraceID().String() {
			t.Errorf("the links are %v", got.Links)
		}
	}
	if none := receiver.Find(testenv.All(testenv.Named("linked"), testenv.With("n", "8"))); len(none) != 0 {
		t.Errorf("found %v", none)
	}
}
