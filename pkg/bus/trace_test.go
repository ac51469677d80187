package bus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const template = "cipherfleet.v1.work.{job}.{table}"

// traced returns a bus whose spans are recorded, besides the plain one.
func traced(t *testing.T) (*queue, trace.Tracer, *tracetest.SpanRecorder) {
	t.Helper()
	q := newQueue(t, bus.Settings{})
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	q.Bus = connect(t, q.server, bus.Config{Tracer: tracer})
	return q, tracer, recorder
}

func find(t *testing.T, recorder *tracetest.SpanRecorder, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var names []string
	for _, span := range recorder.Ended() {
		if span.Name() == name {
			return span
		}
		names = append(names, span.Name())
	}
	t.Fatalf("there is no span %q among %q", name, names)
	return nil
}

func attributes(span sdktrace.ReadOnlySpan) map[attribute.Key]string {
	all := map[attribute.Key]string{}
	for _, one := range span.Attributes() {
		all[one.Key] = one.Value.String()
	}
	return all
}

func TestATasksTraceIsItsOwnAndLinkedToTheJobs(t *testing.T) {
	t.Parallel()
	q, tracer, recorder := traced(t)
	ctx, window := tracer.Start(t.Context(), "fill window")
	if err := q.Publish(ctx, tasks(2)); err != nil {
		t.Fatal(err)
	}
	window.End()

	delivery := q.fetch(t)
	ctx, process := delivery.Span(ctx) // even when a span is at hand, it is no parent
	if err := delivery.Ack(ctx); err != nil {
		t.Fatal(err)
	}
	process.End()

	send, processed, ack := find(t, recorder, "send "+template), find(t, recorder, "process "+template), find(t, recorder, "ack "+template)
	if send.Parent().SpanID() != window.SpanContext().SpanID() || send.SpanKind() != trace.SpanKindProducer {
		t.Errorf("the publishing span has parent %v and kind %v", send.Parent(), send.SpanKind())
	}
	if processed.Parent().IsValid() || processed.SpanContext().TraceID() == send.SpanContext().TraceID() || processed.SpanKind() != trace.SpanKindConsumer {
		t.Errorf("the processing span has parent %v and kind %v", processed.Parent(), processed.SpanKind())
	}
	links := processed.Links()
	if len(links) != 1 || links[0].SpanContext.SpanID() != send.SpanContext().SpanID() || links[0].SpanContext.TraceID() != send.SpanContext().TraceID() {
		t.Errorf("the processing span is linked to %v", links)
	}
	if ack.Parent().SpanID() != processed.SpanContext().SpanID() || ack.SpanKind() != trace.SpanKindClient {
		t.Errorf("the acknowledging span has parent %v and kind %v", ack.Parent(), ack.SpanKind())
	}
	if remote := trace.SpanContextFromContext(delivery.Context(t.Context())); !remote.IsRemote() || remote.SpanID() != send.SpanContext().SpanID() {
		t.Errorf("the remote context is %v", remote)
	}
}

func TestSpansSayWhatNotWho(t *testing.T) {
	t.Parallel()
	q, _, recorder := traced(t)
	q.publish(t, tasks(1)...)
	delivery := q.fetch(t)
	_, process := delivery.Span(t.Context())
	process.End()
	got := attributes(find(t, recorder, "process "+template))
	for key, wanted := range map[attribute.Key]string{
		"messaging.system": "nats", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": messages.StreamWork, "messaging.destination.template": template,
		"messaging.consumer.group.name": messages.ConsumerWorkers, "messaging.message.id": job + "/1/1",
		"cipherfleet.job.id": job, "cipherfleet.table.id": "t16385", "cipherfleet.range.id": "1", "cipherfleet.epoch": "1", "cipherfleet.delivery": "1",
	} {
		if got[key] != wanted {
			t.Errorf("%s is %q", key, got[key])
		}
	}
	got = attributes(find(t, recorder, "send "+template))
	if got["messaging.operation.type"] != "send" || got["messaging.batch.message_count"] != "1" {
		t.Errorf("the publishing span has %v", got)
	}
}

func TestTraceContextIsWrittenInLowerCase(t *testing.T) {
	t.Parallel()
	q, tracer, _ := traced(t)
	ctx, span := tracer.Start(t.Context(), "fill window")
	defer span.End()
	if err := q.Publish(ctx, tasks(3)); err != nil {
		t.Fatal(err)
	}
	if err := q.Emit(ctx, messages.Progress{Job: job, Kind: messages.KindRange}); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		if stored := q.stored(t, messages.StreamEvents).Msgs; stored != 1 {
			return fmt.Errorf("%d events are stored", stored)
		}
		return nil
	})
	if err := q.DeadLetter(ctx, messages.DeadLetter{Job: job, Table: "t1"}); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{messages.StreamWork, messages.StreamEvents, messages.StreamDLQ} {
		for _, message := range q.bodies(t, stream) {
			if len(message.Header["traceparent"]) != 1 || len(message.Header["Traceparent"]) != 0 {
				t.Errorf("%s has the headers %v", stream, message.Header)
			}
		}
	}
}

func TestARequestAndItsAnswerAreOneTrace(t *testing.T) {
	t.Parallel()
	q, _, recorder := traced(t)
	handlers := answering()
	var inHandler trace.SpanContext
	handlers.Get = func(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
		inHandler = trace.SpanContextFromContext(ctx)
		return messages.Job{ID: r.Job}, nil
	}
	service := serve(t, q, handlers)
	if _, err := q.Job(t.Context(), messages.JobRequest{Job: job}); err != nil {
		t.Fatal(err)
	}
	if err := service.Stop(); err != nil { // the span ends after the answer
		t.Fatal(err)
	}
	client, server := find(t, recorder, "send "+messages.SubjectGet), find(t, recorder, "process "+messages.SubjectGet)
	if server.Parent().SpanID() != client.SpanContext().SpanID() || server.SpanKind() != trace.SpanKindServer {
		t.Errorf("the server's span has parent %v and kind %v", server.Parent(), server.SpanKind())
	}
	if inHandler.SpanID() != server.SpanContext().SpanID() {
		t.Errorf("the handler runs in %v", inHandler)
	}
}
