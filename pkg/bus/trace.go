package bus

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/messages"
)

// carrier writes trace context into a message's headers. NATS tells headers apart by their case, and the names are
// in lower case, so the carrier of OpenTelemetry for HTTP would write names that nobody looks for.
type carrier nats.Header

func (c carrier) Get(key string) string {
	if values := c[key]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func (c carrier) Set(key, value string) { c[key] = []string{value} }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}

func inject(ctx context.Context, header nats.Header) {
	propagation.TraceContext{}.Inject(ctx, carrier(header))
}

func extract(ctx context.Context, header nats.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier(header))
}

// template is the subject of all tasks as a span shows it: a span's name must not have as many values as there are jobs.
const template = "cipherfleet.v1.work.{job}.{table}"

func messaging(operation string, kind attribute.KeyValue) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationName(operation),
		kind,
		semconv.MessagingDestinationName(messages.StreamWork),
		semconv.MessagingDestinationTemplate(template),
	}
}

// sending starts the span of publishing tasks.
func (b *Bus) sending(ctx context.Context, tasks []messages.Task) (context.Context, trace.Span) {
	return b.tracer.Start(ctx, "send "+template, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(messaging("send", semconv.MessagingOperationTypeSend)...),
		trace.WithAttributes(
			semconv.MessagingBatchMessageCount(len(tasks)),
			attribute.String("cipherfleet.job.id", tasks[0].Job),
		))
}

// Span starts the span of processing the delivery. It is the root of a trace of its own, linked to whoever offered
// the task: a job of a hundred thousand tasks in one trace could not be looked at.
func (d *Delivery) Span(ctx context.Context) (context.Context, trace.Span) {
	return d.bus.tracer.Start(ctx, "process "+template, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithLinks(trace.LinkFromContext(d.Context(ctx))),
		trace.WithAttributes(messaging("process", semconv.MessagingOperationTypeProcess)...),
		trace.WithAttributes(
			semconv.MessagingConsumerGroupName(messages.ConsumerWorkers),
			semconv.MessagingMessageID(d.Task.ID()),
			semconv.MessagingMessageBodySize(len(d.message.Data())),
			attribute.String("cipherfleet.job.id", d.Task.Job),
			attribute.String("cipherfleet.table.id", d.Task.Table),
			attribute.Int64("cipherfleet.range.id", d.Task.Range),
			attribute.Int64("cipherfleet.epoch", d.Task.Epoch),
			attribute.Int("cipherfleet.delivery", d.Attempt),
		))
}

// Context returns ctx with the span context of whoever offered the task, as a remote one.
func (d *Delivery) Context(ctx context.Context) context.Context {
	return extract(ctx, d.message.Headers())
}

// settling starts the span of an acknowledgement.
func (d *Delivery) settling(ctx context.Context, operation string) (context.Context, trace.Span) {
	return d.bus.tracer.Start(ctx, operation+" "+template, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(messaging(operation, semconv.MessagingOperationTypeSettle)...),
		trace.WithAttributes(semconv.MessagingMessageID(d.Task.ID())))
}

// finish ends a span with the outcome. Errors of this package hold no value of a table.
func finish(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
