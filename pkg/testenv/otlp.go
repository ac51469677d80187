package testenv

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Receiver is where programs under test send their traces: OTLP over HTTP, as protobuf. It keeps every span.
type Receiver struct {
	URL string // for OTEL_EXPORTER_OTLP_ENDPOINT

	mu    sync.Mutex
	spans []Span
}

// Span is what was received of one span. Ids are in hexadecimal, and those that are not there are empty.
type Span struct {
	Name, Service           string
	TraceID, SpanID, Parent string
	Kind                    string // internal, server, client, producer or consumer
	Failed                  bool
	Message                 string // of a failed one
	Attributes              map[string]string
	Links                   []Link
	Events                  []string // the text of events and of all their attributes
	Start, End              time.Time
}

// Link is another span that a span belongs with.
type Link struct{ TraceID, SpanID string }

// OTLP returns a receiver that listens until the test ends.
func OTLP(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", r.receive)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func (r *Receiver) receive(w http.ResponseWriter, request *http.Request) {
	export, err := readExport(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.keep(export)
	answer, err := proto.Marshal(&collector.ExportTraceServiceResponse{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

func readExport(request *http.Request) (*collector.ExportTraceServiceRequest, error) {
	var reader io.Reader = request.Body
	if request.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(reader)
		if err != nil {
			return nil, fmt.Errorf("unzip export: %w", err)
		}
		reader = unzipped
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	export := &collector.ExportTraceServiceRequest{}
	if err := proto.Unmarshal(body, export); err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	return export, nil
}

func (r *Receiver) keep(export *collector.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range export.GetResourceSpans() {
		service := texts(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				r.spans = append(r.spans, read(service, span))
			}
		}
	}
}

func read(service string, s *trace.Span) Span {
	span := Span{
		Name: s.GetName(), Service: service,
		TraceID: hex.EncodeToString(s.GetTraceId()), SpanID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
		Kind:       strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")),
		Failed:     s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR,
		Message:    s.GetStatus().GetMessage(),
		Attributes: texts(s.GetAttributes()),
		Start:      time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())),
	}
	for _, link := range s.GetLinks() {
		span.Links = append(span.Links, Link{TraceID: hex.EncodeToString(link.GetTraceId()), SpanID: hex.EncodeToString(link.GetSpanId())})
	}
	for _, event := range s.GetEvents() {
		span.Events = append(span.Events, fmt.Sprint(event.GetName(), " ", texts(event.GetAttributes())))
	}
	return span
}

func texts(attributes []*common.KeyValue) map[string]string {
	all := make(map[string]string, len(attributes))
	for _, one := range attributes {
		all[one.GetKey()] = text(one.GetValue())
	}
	return all
}

func text(value *common.AnyValue) string {
	switch v := value.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *common.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	case *common.AnyValue_DoubleValue:
		return fmt.Sprint(v.DoubleValue)
	}
	return value.String()
}

// Spans returns all spans received so far, in the order of their arrival.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Span(nil), r.spans...)
}

// Find returns the spans received so far that match.
func (r *Receiver) Find(match func(Span) bool) []Span {
	var found []Span
	for _, span := range r.Spans() {
		if match(span) {
			found = append(found, span)
		}
	}
	return found
}

// Wait waits until at least count spans match and returns them; it fails the test after the timeout with the names
// of those that came.
func (r *Receiver) Wait(t testing.TB, timeout time.Duration, count int, match func(Span) bool) []Span {
	t.Helper()
	var found []Span
	Eventually(t, timeout, func() error {
		if found = r.Find(match); len(found) >= count {
			return nil
		}
		names := map[string]int{}
		for _, span := range r.Spans() {
			names[span.Name]++
		}
		return fmt.Errorf("%d of %d spans match; received are %v", len(found), count, names)
	})
	return found
}

// Named matches spans by their name.
func Named(name string) func(Span) bool { return func(s Span) bool { return s.Name == name } }

// InTrace matches the spans of a trace.
func InTrace(id string) func(Span) bool { return func(s Span) bool { return s.TraceID == id } }

// With matches spans by an attribute.
func With(key, value string) func(Span) bool {
	return func(s Span) bool { return s.Attributes[key] == value }
}

// All matches what every one of the others matches.
func All(matches ...func(Span) bool) func(Span) bool {
	return func(s Span) bool {
		for _, match := range matches {
			if !match(s) {
				return false
			}
		}
		return true
	}
}
