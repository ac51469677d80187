package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// spans receives the fleet's traces, where nobody else was named to, and only counts them.
type spans struct {
	address string
	mu      sync.Mutex
	traces  map[string]*traced
}

// traced is what arrived of one trace.
type traced struct {
	spans int
	links map[string]bool // traces that its spans are linked to
}

// openSpans starts to receive, unless the environment has another receiver, or no wish for traces.
func (s *stage) openSpans(config app.Tracing) error {
	if cmp.Or(config.OTLPEndpoint, config.TracesEndpoint) != "" || config.SDKDisabled == "true" || config.TracesExporter == "none" {
		return nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for traces: %w", err)
	}
	s.spans = &spans{address: listener.Addr().String(), traces: map[string]*traced{}}
	server := &http.Server{Handler: s.spans, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(listener) //nolint:errcheck // it ends when it is closed
	}()
	s.closing(func() error {
		err := server.Close()
		<-served
		return err
	})
	return nil
}

func (s *spans) url() string { return "http://" + s.address }

const mostSpanBytes = 64 << 20

// ServeHTTP takes one batch of spans, in OTLP's binary form.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostSpanBytes))
	var batch collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &batch) != nil {
		http.Error(w, "this is no OTLP", http.StatusBadRequest)
		return
	}
	s.add(&batch)
	w.Header().Set("Content-Type", "application/x-protobuf") // and an empty answer: all was taken
}

func (s *spans) add(batch *collector.ExportTraceServiceRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range batch.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				id := fmt.Sprintf("%x", span.GetTraceId())
				if s.traces[id] == nil {
					s.traces[id] = &traced{links: map[string]bool{}}
				}
				s.traces[id].spans++
				for _, link := range span.GetLinks() {
					s.traces[id].links[fmt.Sprintf("%x", link.GetTraceId())] = true
				}
			}
		}
	}
}

// of counts the spans of a trace, and the traces that are linked to it with their spans.
func (s *spans) of(id string) (own, linked, theirs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.traces[id]; t != nil {
		own = t.spans
	}
	for _, t := range s.traces {
		if t.links[id] {
			linked++
			theirs += t.spans
		}
	}
	return own, linked, theirs
}

// awaitSpans gives a trace's first spans the time to arrive: programs send them in batches.
func (s *stage) awaitSpans(ctx context.Context, id string) error {
	if s.spans == nil || id == "" {
		return nil
	}
	return eventually(ctx, "the arrival of the job's trace", func() (bool, error) {
		own, linked, _ := s.spans.of(id)
		return own > 0 && linked > 0, nil
	})
}
