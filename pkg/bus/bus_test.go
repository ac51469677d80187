package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const job = "0197a1b2-c3d4-7e5f-8a6b-9c0d1e2f3a4b"

// queue is a server of the test's own, a bus to it, the streams made, and a plain connection to look from outside.
type queue struct {
	*bus.Bus
	server *embedded.NATS
	js     jetstream.JetStream
	log    *lines
}

func newQueue(t *testing.T, settings bus.Settings) *queue {
	t.Helper()
	server := testenv.OwnNATS(t)
	log := &lines{}
	q := &queue{server: server, log: log, Bus: connect(t, server, bus.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})}
	q.js = plainJetStream(t, server)
	if _, err := q.Ensure(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	return q
}

func connect(t *testing.T, server *embedded.NATS, config bus.Config) *bus.Bus {
	t.Helper()
	config.URL, config.TokenFile, config.Name = server.URL(), server.TokenFile(), t.Name()
	b, err := bus.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func task(number int64) messages.Task {
	return messages.Task{V: messages.Version, Job: job, Range: number, Table: "t16385", Epoch: 1}
}

func tasks(count int64) []messages.Task {
	all := make([]messages.Task, count)
	for i := range all {
		all[i] = task(int64(i) + 1)
	}
	return all
}

func (q *queue) publish(t *testing.T, tasks ...messages.Task) {
	t.Helper()
	if err := q.Publish(t.Context(), tasks); err != nil {
		t.Fatal(err)
	}
}

// fetch returns a task that must be there. It is patient, since a busy machine may not let the server run for seconds.
func (q *queue) fetch(t *testing.T) *bus.Delivery {
	t.Helper()
	const patience = time.Minute
	delivery, err := q.Fetch(t.Context(), patience)
	if err != nil {
		t.Fatal(err)
	}
	if delivery == nil {
		t.Fatalf("no task within %s", patience)
	}
	return delivery
}

// nothing checks that no task comes.
func (q *queue) nothing(t *testing.T, wait time.Duration) {
	t.Helper()
	if delivery, err := q.Fetch(t.Context(), wait); delivery != nil || err != nil {
		t.Fatalf("fetched %v, %v", delivery, err)
	}
}

func (q *queue) stored(t *testing.T, stream string) jetstream.StreamState {
	t.Helper()
	found, err := q.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return found.CachedInfo().State
}

func (q *queue) held(t *testing.T) (waiting, held int) {
	t.Helper()
	waiting, held, err := q.Pending(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return waiting, held
}

func isError(t *testing.T, err, wanted error) {
	t.Helper()
	if !errors.Is(err, wanted) {
		t.Errorf("error is %v, not %v", err, wanted)
	}
}

// within fails the test when f takes longer: what must not hang is called through it.
func within(t *testing.T, most time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(most):
		t.Fatalf("not done after %s", most)
	}
}

// lines is a log to look into.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(part string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.Contains(l.text.String(), part) {
		return fmt.Errorf("the log does not say %q:\n%s", part, l.text.String())
	}
	return nil
}

func cancelled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func plainJetStream(t *testing.T, server *embedded.NATS) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(server.URL(), nats.Token(server.Token()), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
