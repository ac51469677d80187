// Package bus carries tasks, progress and requests over NATS, and is the only door to it.
//
// The queue is a stream on disk from which an acknowledged task disappears; all workers share one durable consumer of
// it. A delivery is a task in a worker's hands: it comes back when it is neither acknowledged nor kept alive for as
// long as the acknowledgement may take. The identity of the queue tells whether it is still the one that was filled:
// a queue that lost its disk has another. The service answers requests about jobs.
//
// Nothing here is exactly once, and nothing relies on it: a task may be delivered twice, to two workers, after it was
// acknowledged, or never. Postgres decides what a delivery means; the queue only wakes and spreads the work.
package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sethvargo/go-retry"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config says where NATS is and how to be let in. Only URL, or InProcess instead of it, is needed.
type Config struct {
	URL       string        // nats://host:port, tls://…, ws://…; several, separated by commas, are one cluster
	Name      string        // of this connection, as an operator of NATS sees it
	Token     string        // instead of TokenFile
	TokenFile string        // read again at every connect, so that a token may be replaced
	Creds     string        // a .creds file
	CA        string        // a PEM file with the certificate authorities to trust
	Patience  time.Duration // how long to try to reach a server before giving up; 0 means once
	InProcess Server        // a server in this process
	Logger    *slog.Logger  // nil: silent
	Tracer    trace.Tracer  // nil: no spans
}

// Server is a NATS server in this process.
type Server interface {
	InProcessConn() (net.Conn, error)
}

// Bus is a connection to NATS that reconnects for ever. Its methods may be called from several goroutines.
type Bus struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	logger    *slog.Logger
	tracer    trace.Tracer
	denials   denials
	lingering sync.WaitGroup // fetches that nobody waits for any more

	mu       sync.Mutex
	consumer jetstream.Consumer // nil: not known
	since    time.Time          // when it was last looked up
}

// Connect reaches a server and is let in, or says why not: ErrSettings, ErrDenied, or, after Patience, ErrUnreachable.
// From then on the connection looks after itself.
func Connect(ctx context.Context, config Config) (*Bus, error) {
	b := &Bus{logger: config.Logger, tracer: config.Tracer}
	if b.logger == nil {
		b.logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if b.tracer == nil {
		b.tracer = noop.NewTracerProvider().Tracer("")
	}
	options, err := b.options(config)
	if err != nil {
		return nil, err
	}
	if err := b.connect(ctx, config, options); err != nil {
		return nil, err
	}
	b.js, err = jetstream.New(b.nc, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		b.nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return b, nil
}

func (b *Bus) connect(ctx context.Context, config Config, options []nats.Option) error {
	patience := retry.WithMaxDuration(config.Patience, retry.WithJitterPercent(30, retry.NewConstant(250*time.Millisecond)))
	if config.Patience <= 0 {
		patience = retry.WithMaxRetries(0, retry.NewConstant(time.Second))
	}
	err := retry.Do(ctx, patience, func(ctx context.Context) error {
		nc, err := nats.Connect(config.URL, append(options, nats.Timeout(untilDeadline(ctx, 5*time.Second)))...)
		if err = connectError(err); errors.Is(err, ErrUnreachable) {
			return retry.RetryableError(err)
		}
		b.nc = nc
		return err
	})
	if err != nil {
		return fmt.Errorf("connect to NATS at %s: %w", cmp.Or(hosts(config.URL), "the server in this process"), err)
	}
	return nil
}

// options checks everything that can be wrong before the first packet.
func (b *Bus) options(config Config) ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name(config.Name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(b.onError),
		nats.DisconnectErrHandler(func(conn *nats.Conn, _ error) {
			if !conn.IsClosed() && !conn.IsDraining() { // else it was ended on purpose
				b.logger.Warn("lost the connection to NATS")
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { b.logger.Info("reconnected to NATS") }),
	}
	if config.InProcess != nil {
		options = append(options, nats.InProcessServer(config.InProcess))
	} else if err := checkURLs(config.URL); err != nil {
		return nil, err
	}
	return credentials(options, config)
}

func credentials(options []nats.Option, config Config) ([]nats.Option, error) {
	for _, file := range []string{config.TokenFile, config.Creds, config.CA} {
		if file == "" {
			continue
		}
		if _, err := os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSettings, err)
		}
	}
	switch {
	case config.Token != "":
		options = append(options, nats.Token(config.Token))
	case config.TokenFile != "":
		options = append(options, nats.TokenHandler(func() string {
			token, _ := os.ReadFile(config.TokenFile) // unreadable now: the server refuses, and we try again
			return strings.TrimSpace(string(token))
		}))
	}
	if config.Creds != "" {
		options = append(options, nats.UserCredentials(config.Creds))
	}
	if config.CA != "" {
		options = append(options, nats.RootCAs(config.CA))
	}
	return options, nil
}

// reconnectDelay doubles from 100 ms to 2 s and spreads the fleet over the upper half of it.
func reconnectDelay(attempts int) time.Duration {
	delay := 2 * time.Second
	if attempts < 5 {
		delay = 100 * time.Millisecond << max(attempts, 0)
	}
	return delay/2 + rand.N(delay/2)
}

func (b *Bus) onError(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		b.denials.record(err)
	}
	b.logger.Warn("NATS reports an error", "error", err)
}

// Ready returns nil while the server answers, and ErrUnreachable when it does not before ctx ends.
func (b *Bus) Ready(ctx context.Context) error {
	if !b.nc.IsConnected() {
		return fmt.Errorf("reach NATS: %w", ErrUnreachable)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := b.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("reach NATS: %w", ErrUnreachable)
	}
	return nil
}

// Drain sends what is still to be sent and closes. It waits, no longer than ctx, for fetches that were given up: a
// task that reaches one of them is handed back to the queue at once.
func (b *Bus) Drain(ctx context.Context) error {
	defer b.nc.Close()
	gone := make(chan struct{})
	go func() {
		b.lingering.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !b.nc.IsConnected() {
		return nil // there is nobody to send anything to
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := b.nc.FlushWithContext(ctx); err != nil {
		return b.classify(time.Now(), "flush", err)
	}
	return nil
}

// Close ends the connection at once.
func (b *Bus) Close() { b.nc.Close() }

func checkURLs(urls string) error {
	if urls == "" {
		return fmt.Errorf("%w: there is no URL of a server", ErrSettings)
	}
	if hosts(urls) == "" {
		return fmt.Errorf("%w: the URL is not like nats://host:4222", ErrSettings) // the parser's error would quote it
	}
	return nil
}

// hosts are the servers of the URLs, with neither user nor password; empty when they cannot be told apart.
func hosts(urls string) string {
	var all []string
	for _, one := range strings.Split(urls, ",") {
		one = strings.TrimSpace(one)
		if !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		parsed, err := url.Parse(one)
		if err != nil || parsed.Host == "" {
			return ""
		}
		all = append(all, parsed.Host)
	}
	return strings.Join(all, ", ")
}

func untilDeadline(ctx context.Context, most time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(min(most, time.Until(deadline)), time.Millisecond)
	}
	return most
}
