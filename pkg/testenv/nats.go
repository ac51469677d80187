package testenv

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cipherfleet/cipherfleet/pkg/embedded"
)

// NATSServer is where a test connects. No stream of ours is on it, and no other test uses it meanwhile.
type NATSServer struct {
	URL       string
	TokenFile string // empty: the URL is enough
}

// NATS returns a server with JetStream for this test alone: a new one in this process, or the one that
// CIPHERFLEET_TEST_NATS_URL names. Our streams have fixed names, so tests take turns on a named one.
func NATS(t testing.TB) NATSServer {
	t.Helper()
	config, err := readEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if url := config.TestNATSURL.Raw(); url != "" {
		takeTurn(t, url)
		return NATSServer{URL: url}
	}
	own := OwnNATS(t)
	return NATSServer{URL: own.URL(), TokenFile: own.TokenFile()}
}

// OwnNATS starts a server with JetStream on disk in this process, which the test may restart and wipe.
func OwnNATS(t testing.TB) *embedded.NATS {
	t.Helper()
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// takeTurn waits until no test of any process uses the server at url, and clears our streams before and after.
func takeTurn(t testing.TB, url string) {
	t.Helper()
	sum := sha256.Sum256([]byte(url))
	lock, err := embedded.Lock(filepath.Join(os.TempDir(), fmt.Sprintf("cipherfleet-testenv-nats-%d-%x.lock", os.Getuid(), sum[:8])))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	})
	if err := deleteStreams(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := deleteStreams(ctx, url); err != nil {
			t.Error(err)
		}
	})
}

// deleteStreams removes every stream of ours from a server.
func deleteStreams(ctx context.Context, url string) error {
	conn, err := nats.Connect(url, nats.Timeout(10*time.Second))
	if err != nil {
		return fmt.Errorf("connect to CIPHERFLEET_TEST_NATS_URL: %w", err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("use JetStream of CIPHERFLEET_TEST_NATS_URL: %w", err)
	}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if !strings.HasPrefix(name, "CIPHERFLEET_") {
			continue
		}
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("delete stream %s: %w", name, err)
		}
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	return nil
}
