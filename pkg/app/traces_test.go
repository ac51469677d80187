package app_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t *testing.T, tracing app.Tracing) *app.Traces {
	t.Helper()
	traces, err := app.OpenTraces(t.Context(), tracing, "cipherfleet-worker", "v1.2.3", silent())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := traces.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return traces
}

func TestWithoutAnEndpointThereAreNoSpans(t *testing.T) {
	t.Parallel()
	receiver := testenv.OTLP(t)
	for name, tracing := range map[string]app.Tracing{
		"nothing":  {},
		"disabled": {OTLPEndpoint: receiver.URL, SDKDisabled: "true"},
		"none":     {OTLPEndpoint: receiver.URL, TracesExporter: "none"},
	} {
		traces := open(t, tracing)
		_, span := traces.Tracer().Start(t.Context(), "x")
		if span.IsRecording() || traces.On() || traces.Queries() != nil {
			t.Errorf("%s: there are traces", name)
		}
		if err := traces.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	var none *app.Traces
	if none.On() || none.Queries() != nil || none.Close(t.Context()) != nil {
		t.Error("there are traces without any")
	}
	_, span := none.Tracer().Start(t.Context(), "x")
	span.End()
}

func TestSpansArriveUnderTheProgramsName(t *testing.T) {
	t.Parallel()
	receiver := testenv.OTLP(t)
	for _, tracing := range []app.Tracing{
		{OTLPEndpoint: receiver.URL},
		{OTLPEndpoint: receiver.URL + "/", OTLPProtocol: "http/protobuf"},
		{OTLPEndpoint: "http://127.0.0.1:1", TracesEndpoint: receiver.URL + "/v1/traces"},
		{OTLPEndpoint: receiver.URL, OTLPProtocol: "grpc", TracesProtocol: "http/protobuf"},
	} {
		traces := open(t, tracing)
		_, span := traces.Tracer().Start(t.Context(), "chunk")
		span.End()
		if err := traces.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := receiver.Wait(t, time.Minute, 1, testenv.InTrace(span.SpanContext().TraceID().String()))
		if got[0].Name != "chunk" || got[0].Service != "cipherfleet-worker" {
			t.Errorf("received is %+v", got[0])
		}
	}
}

// overGRPC counts the spans that arrive by the other protocol.
type overGRPC struct {
	collector.UnimplementedTraceServiceServer
	spans chan string
}

func (o overGRPC) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	o.spans <- r.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0].GetName()
	return &collector.ExportTraceServiceResponse{}, nil
}

func TestSpansArriveOverGRPC(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, receiver := grpc.NewServer(), overGRPC{spans: make(chan string, 1)}
	collector.RegisterTraceServiceServer(server, receiver)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	defer serving.Wait()
	defer server.Stop()
	traces := open(t, app.Tracing{OTLPEndpoint: "http://" + listener.Addr().String(), OTLPProtocol: "grpc"})
	_, span := traces.Tracer().Start(t.Context(), "chunk")
	span.End()
	if err := traces.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if name := <-receiver.spans; name != "chunk" {
		t.Errorf("received is %s", name)
	}
}

func TestAReceiverThatIsGoneStopsNobody(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	traces, err := app.OpenTraces(t.Context(), app.Tracing{OTLPEndpoint: "http://127.0.0.1:1"}, "x", "", slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, span := traces.Tracer().Start(t.Context(), "x")
	span.End()
	start := time.Now()
	_ = traces.Close(t.Context()) // it may say that spans were lost
	if took := time.Since(start); took > 45*time.Second {
		t.Errorf("closing took %s", took)
	}
}

func TestStatementsAreTracedWithoutValues(t *testing.T) {
	t.Parallel()
	receiver := testenv.OTLP(t)
	traces := open(t, app.Tracing{OTLPEndpoint: receiver.URL})
	empty := testenv.EmptyDatabase(t)
	db, err := app.OpenDatabase(t.Context(), app.Database{DatabaseURL: app.URL(empty.URL)}, "cipherfleet-worker", 2, traces)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, span := traces.Tracer().Start(t.Context(), "chunk")
	var name string
	if err := db.QueryRow(ctx, "SELECT $1 || current_setting('application_name')", "secret ").Scan(&name); err != nil || name != "secret cipherfleet-worker" {
		t.Errorf("answer is %q, %v", name, err)
	}
	if _, err := db.Exec(ctx, "CREATE TABLE public.t (id int PRIMARY KEY, v text CHECK (v <> 'secret-v'))"); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []struct {
		sql  string
		args []any
	}{
		{"SELECT ($1::text)::int", []any{"secret-i"}},                   // the message quotes it
		{"INSERT INTO public.t VALUES (1, $1)", []any{"secret-v"}},      // the detail quotes it
		{"DO $$BEGIN RAISE 'secret-r'; END$$", nil},                     // a user's trigger may say anything
		{"SELECT 'secret-p'::int + $1", []any{1}},                       // fails at its preparation
		{"SELECT nosuch FROM public.t WHERE v = $1", []any{"secret-w"}}, // and so does this
	} {
		if _, err := db.Exec(ctx, refused.sql, refused.args...); err == nil {
			t.Errorf("%s is not refused", refused.sql)
		}
	}
	span.End()
	if err := traces.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, one := range receiver.Wait(t, time.Minute, 6, testenv.InTrace(span.SpanContext().TraceID().String())) {
		if one.Failed {
			failed++
		}
		if said := fmt.Sprint(one.Message, one.Events); strings.Contains(said, "secret") {
			t.Errorf("a span quotes the server: %s", said)
		}
		// The text of a statement is shown, and only constants of our own stand in it.
		if delete(one.Attributes, "db.query.text"); strings.Contains(fmt.Sprint(one.Attributes, one.Name), "secret") {
			t.Errorf("a span shows a parameter: %v", one)
		}
	}
	if failed < 5 {
		t.Errorf("only %d spans failed", failed)
	}
}

func TestAnEndpointThatIsNoURLIsNamed(t *testing.T) {
	t.Parallel()
	for _, tracing := range []app.Tracing{{OTLPEndpoint: "collector:4317"}, {OTLPEndpoint: "http://", OTLPProtocol: "grpc"}} {
		_, err := app.OpenTraces(t.Context(), tracing, "x", "", silent())
		isVariable(t, err, "OTEL_EXPORTER_OTLP_ENDPOINT", tracing.OTLPEndpoint)
	}
	_, err := app.OpenTraces(t.Context(), app.Tracing{TracesEndpoint: "ftp://h/"}, "x", "", silent())
	isVariable(t, err, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://h/")
	_, err = app.OpenTraces(t.Context(), app.Tracing{TracesEndpoint: "ftp://a:secret@h/"}, "x", "", silent())
	isVariable(t, err, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "(hidden: it may hold a password)")
}

func TestADatabaseIsNeeded(t *testing.T) {
	t.Parallel()
	_, err := app.OpenDatabase(t.Context(), app.Database{}, "x", 1, nil)
	isVariable(t, err, "DATABASE_URL", "")
}

func TestTheBusIsConnectedAsConfigured(t *testing.T) {
	t.Parallel()
	server := testenv.OwnNATS(t)
	config := app.NATS{NATSURL: app.URL(server.URL()), NATSTokenFile: server.TokenFile()}
	b, err := bus.Connect(t.Context(), config.Bus("n", 0, silent(), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	given := app.NATS{NATSURL: "nats://h", NATSCreds: "c", NATSTokenFile: "t", NATSCA: "a"}.Bus("n", time.Second, silent(), nil)
	if given.Creds != "c" || given.TokenFile != "t" || given.CA != "a" || given.Name != "n" || given.Patience != time.Second {
		t.Errorf("it is %+v", given)
	}
}
