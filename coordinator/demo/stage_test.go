package demo

import (
	"io"
	"log/slog"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

func configured(terminal, noColor string) app.Demo {
	return app.Demo{Terminal: terminal, NoColor: noColor}
}

func TestTheDemosDatabaseReplacesTheNamedOneAndNothingElse(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]string{
		"postgres://u:p%40@h:5433/shop?sslmode=require": "postgres://u:p%40@h:5433/own?sslmode=require",
		"postgresql://h": "postgresql://h/own",
		"postgres://h/?dbname=shop&database=x&host=%2Fvar%2Frun": "postgres://h/own?host=%2Fvar%2Frun",
		"host=/tmp dbname=shop user=u":                           "host=/tmp dbname=shop user=u dbname=own",
	} {
		if got, err := withDatabase(server, "own"); err != nil || got != want {
			t.Errorf("%s becomes %s, %v", server, got, err)
		}
	}
	if _, err := withDatabase("postgres://h:port/x", "own"); err == nil {
		t.Error("what is no URL is taken")
	}
}

func TestSpansAreCountedByTraceAndByLink(t *testing.T) {
	t.Parallel()
	var s stage
	if err := s.openSpans(app.Tracing{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	traces, err := app.OpenTraces(t.Context(), app.Tracing{OTLPEndpoint: s.spans.url()}, "test", "1", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	jobContext, job := traces.Tracer().Start(t.Context(), "job")
	_, plan := traces.Tracer().Start(jobContext, "plan")
	plan.End()
	job.End()
	taskContext, task := traces.Tracer().Start(t.Context(), "task", trace.WithLinks(trace.Link{SpanContext: job.SpanContext()}))
	_, chunk := traces.Tracer().Start(taskContext, "chunk")
	chunk.End()
	task.End()
	_, other := traces.Tracer().Start(t.Context(), "other")
	other.End()
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := job.SpanContext().TraceID().String()
	if err := s.awaitSpans(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if own, linked, theirs := s.spans.of(id); own != 2 || linked != 1 || theirs != 2 {
		t.Errorf("%d spans, %d linked traces with %d spans", own, linked, theirs)
	}
}

func TestSpansGoWhereTheEnvironmentSays(t *testing.T) {
	t.Parallel()
	for _, config := range []app.Tracing{{OTLPEndpoint: "http://elsewhere:4318"}, {TracesEndpoint: "http://elsewhere:4318/v1/traces"}, {SDKDisabled: "true"}, {TracesExporter: "none"}} {
		var s stage
		if err := s.openSpans(config); err != nil || s.spans != nil {
			t.Errorf("with %+v the demo receives them itself, %v", config, err)
		}
	}
}
