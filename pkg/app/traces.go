package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Traces makes spans and sends them to an OTLP receiver. A nil one makes none.
type Traces struct {
	provider trace.TracerProvider
	sdk      *sdktrace.TracerProvider // nil: off
}

// instrumentation is the name under which all of the project's spans are made.
const instrumentation = "github.com/cipherfleet/cipherfleet"

// spanQueue holds spans until they are sent. What does not fit is dropped: work never waits for its traces.
const spanQueue = 8192

// OpenTraces starts to trace if the environment names a receiver, which need not be there yet.
func OpenTraces(ctx context.Context, tracing Tracing, service, version string, logger *slog.Logger) (*Traces, error) {
	if tracing.off() {
		return &Traces{provider: noop.NewTracerProvider()}, nil
	}
	exporter, err := tracing.exporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("open traces: %w", err)
	}
	described, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(version)),
		resource.WithFromEnv(), // last: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	)
	if err != nil {
		return nil, fmt.Errorf("open traces: %w", err)
	}
	// OpenTelemetry knows one handler for all errors of a process.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("traces are not delivered", "error", err) }))
	sdk := sdktrace.NewTracerProvider(
		sdktrace.WithResource(described),
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(spanQueue), sdktrace.WithBatchTimeout(time.Second)),
	)
	return &Traces{provider: sdk, sdk: sdk}, nil
}

func (t Tracing) off() bool {
	return t.SDKDisabled == "true" || t.TracesExporter == "none" || t.OTLPEndpoint == "" && t.TracesEndpoint == ""
}

func (t Tracing) exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	grpc := cmp.Or(t.TracesProtocol, t.OTLPProtocol) == "grpc"
	endpoint, err := t.endpoint(grpc)
	if err != nil {
		return nil, err
	}
	if grpc {
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
}

// endpoint is the one for traces as it is, or the common one, which over HTTP is only the beginning of it.
func (t Tracing) endpoint(grpc bool) (string, error) {
	name, given := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", t.TracesEndpoint
	if given == "" {
		name, given = "OTEL_EXPORTER_OTLP_ENDPOINT", t.OTLPEndpoint
	}
	parsed, err := url.Parse(given)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		if strings.Contains(given, "@") {
			given = hidden
		}
		return "", &VariableError{Name: name, Was: given, Accepted: "http://host:port or https://host:port"}
	}
	if t.TracesEndpoint == "" && !grpc {
		parsed = parsed.JoinPath("v1", "traces")
	}
	return parsed.String(), nil
}

// Provider makes tracers; it is never nil.
func (t *Traces) Provider() trace.TracerProvider {
	if t == nil {
		return noop.NewTracerProvider()
	}
	return t.provider
}

// Tracer makes spans; it is never nil.
func (t *Traces) Tracer() trace.Tracer { return t.Provider().Tracer(instrumentation) }

// On reports whether spans go anywhere.
func (t *Traces) On() bool { return t != nil && t.sdk != nil }

// Flush sends all spans that have ended, within ctx.
func (t *Traces) Flush(ctx context.Context) error {
	if !t.On() {
		return nil
	}
	if err := t.sdk.ForceFlush(ctx); err != nil {
		return fmt.Errorf("flush traces: %w", err)
	}
	return nil
}

// Close sends what is left, for at most five seconds: a program must end without its receiver.
func (t *Traces) Close(ctx context.Context) error {
	if !t.On() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := t.sdk.Shutdown(ctx); err != nil {
		return fmt.Errorf("close traces: %w", err)
	}
	return nil
}
