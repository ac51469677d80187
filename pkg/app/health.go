package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Check is one thing that a program needs to be of use.
type Check struct {
	Name  string
	Probe func(ctx context.Context) error
}

// Health answers /healthz, which only says that the process lives, and /readyz, which says that every check passes
// and that the program is not draining. The first is for whoever restarts programs: were it to ask Postgres, an
// outage of Postgres would restart the fleet.
type Health struct {
	checks   []Check
	logger   *slog.Logger
	draining atomic.Bool
}

// checkTime is how long all checks together may take.
const checkTime = 3 * time.Second

// NewHealth returns what runs the checks at each request.
func NewHealth(logger *slog.Logger, checks ...Check) *Health {
	return &Health{checks: checks, logger: logger}
}

// Drain makes the program not ready for the rest of its life.
func (h *Health) Drain() { h.draining.Store(true) }

// Handler answers both paths.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", h.ready)
	return mux
}

// ready answers with the names of the checks and whether they pass. Why one fails is in the log: the answer is open
// to whoever can reach the port.
func (h *Health) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	results := h.run(ctx)
	if h.draining.Load() {
		results["draining"] = "failed"
	}
	ready := true
	for _, result := range results {
		ready = ready && result == "ok"
	}
	w.Header().Set("Content-Type", "application/json")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"ready": ready, "checks": results})
}

func (h *Health) run(ctx context.Context) map[string]string {
	results := make(map[string]string, len(h.checks)+1)
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, check := range h.checks {
		running.Go(func() {
			result := "ok"
			if err := check.Probe(ctx); err != nil {
				h.logger.WarnContext(ctx, "not ready", "check", check.Name, "error", err)
				result = "failed"
			}
			mu.Lock()
			defer mu.Unlock()
			results[check.Name] = result
		})
	}
	running.Wait()
	return results
}

// HealthServer answers for a Health on an address until it is closed.
type HealthServer struct {
	server  *http.Server
	address string
	ended   chan struct{}
}

// Listen answers on the address, or nowhere if that is "off". A handler other than nil gets the requests for all
// other paths.
func (h *Health) Listen(address string, other http.Handler) (*HealthServer, error) {
	s := &HealthServer{ended: make(chan struct{})}
	if address == "off" {
		close(s.ended)
		return s, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &Fail{Code: CodeUsage, Err: fmt.Errorf("listen on %s: %w", address, err),
			Hint: "choose another address, or off, with CIPHERFLEET_LISTEN or CIPHERFLEET_WORKER_LISTEN"}
	}
	mux := http.NewServeMux()
	mux.Handle("/healthz", h.Handler())
	mux.Handle("/readyz", h.Handler())
	if other != nil {
		mux.Handle("/", other)
	}
	s.address = listener.Addr().String()
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(s.ended)
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			h.logger.Error("health is no longer answered", "error", err)
		}
	}()
	return s, nil
}

// Address is where it listens, with the port that was given or found; empty when it is off.
func (s *HealthServer) Address() string { return s.address }

// Close ends it, after the requests in hand but no later than ctx.
func (s *HealthServer) Close(ctx context.Context) error {
	if s.server == nil {
		return nil
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("close health: %w", err), s.server.Close())
	}
	<-s.ended
	return err
}
