package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSOptions describes an embedded NATS server; the zero value keeps everything in a temporary folder.
type NATSOptions struct {
	Dir      string       // holds the store, the token and the lock; empty: temporary, removed by Stop
	Token    string       // the token of a first start; empty: a random one. Later starts keep the first
	Port     int          // 0: a free one
	Relaxed  bool         // flush to disk every two minutes instead of on every write: for benchmarks only
	MaxStore int64        // bytes the store may grow to; 0: 1 GiB
	Logger   *slog.Logger // gets the server's warnings and errors; nil: nobody does
}

// NATS is a server with JetStream in this process, on a loopback port. Its methods may be called from several
// goroutines.
type NATS struct {
	options   NATSOptions
	port      int
	token     string
	temporary bool
	lock      *FileLock

	mu     sync.RWMutex
	server *server.Server // nil: not running
}

const readyTimeout = time.Minute

// StartNATS starts a server and returns when it accepts connections. A store that another process uses is refused
// with ErrLocked. On failure nothing runs.
func StartNATS(o NATSOptions) (*NATS, error) {
	n := &NATS{options: o, port: o.Port}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.release())
	}
	if err := n.startSomewhere(); err != nil {
		return nil, errors.Join(err, n.release())
	}
	return n, nil
}

func (n *NATS) open() (err error) {
	if n.options.Dir == "" {
		if n.options.Dir, err = os.MkdirTemp("", "cipherfleet-nats-"); err != nil {
			return fmt.Errorf("make temporary folder for NATS: %w", err)
		}
		n.temporary = true
	}
	if err := os.MkdirAll(n.options.Dir, 0o700); err != nil {
		return fmt.Errorf("make folder for NATS: %w", err)
	}
	if n.lock, err = TryLock(filepath.Join(n.options.Dir, "lock")); err != nil {
		return fmt.Errorf("open NATS store: %w", err)
	}
	n.token, err = keepSecret(n.TokenFile(), n.options.Token)
	return err
}

func (n *NATS) startSomewhere() (err error) {
	if n.options.Port != 0 {
		return n.start()
	}
	for range portAttempts {
		if n.port, err = freePort(); err != nil {
			return err
		}
		if err = n.start(); err == nil || !portTaken(err) {
			return err
		}
	}
	return err
}

func (n *NATS) start() error {
	if n.lock == nil {
		return errors.New("start NATS server: it was stopped for good")
	}
	log := &serverLog{to: n.options.Logger}
	started, err := server.NewServer(n.serverOptions())
	if err != nil {
		return fmt.Errorf("configure NATS server: %w", err)
	}
	started.SetLoggerV2(log, false, false, false)
	started.Start() // returns when the server listens, or has told its log why not
	if log.fatal == nil && !started.ReadyForConnections(readyTimeout) {
		log.Fatalf("not ready after %s", readyTimeout)
	}
	if log.fatal != nil {
		started.Shutdown()
		started.WaitForShutdown()
		return fmt.Errorf("start NATS server on %s: %w", hostPort(n.port), log.fatal)
	}
	n.server = started
	return nil
}

func (n *NATS) serverOptions() *server.Options {
	maxStore := n.options.MaxStore
	if maxStore == 0 {
		maxStore = 1 << 30
	}
	return &server.Options{
		ServerName:         "cipherfleet",
		Host:               loopback,
		Port:               n.port,
		Authorization:      n.token,
		JetStream:          true,
		StoreDir:           n.options.Dir,
		JetStreamMaxStore:  maxStore,
		JetStreamMaxMemory: 64 << 20,
		SyncAlways:         !n.options.Relaxed,
		NoSigs:             true,
	}
}

// URL is where any process on this machine connects, with the token of TokenFile.
func (n *NATS) URL() string { return "nats://" + hostPort(n.port) }

// TokenFile holds the token that every client must show; only its owner may read it.
func (n *NATS) TokenFile() string { return filepath.Join(n.options.Dir, "token") }

// Token is the content of TokenFile.
func (n *NATS) Token() string { return n.token }

// InProcessConn connects to the server that runs at this moment without a socket; it lets *NATS be handed to
// nats.InProcessServer. The client must show the token all the same.
func (n *NATS) InProcessConn() (net.Conn, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.server == nil {
		return nil, errors.New("connect to NATS in this process: the server is stopped")
	}
	return n.server.InProcessConn()
}

// Restart ends the server, cutting every connection, and starts it again on its port with what the store holds.
func (n *NATS) Restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shutDown()
	return n.startAgain()
}

// WipeStore ends the server, deletes every stream and consumer from disk and starts it empty on its port.
func (n *NATS) WipeStore() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shutDown()
	if err := os.RemoveAll(filepath.Join(n.options.Dir, "jetstream")); err != nil {
		return fmt.Errorf("wipe NATS store: %w", err)
	}
	return n.startAgain()
}

const reopenTimeout = 20 * time.Second

// startAgain starts on the port that the server had. A child process that this program starts meanwhile holds a copy
// of the closed listener until it has become the other program, so the port may need a moment to be free.
func (n *NATS) startAgain() error {
	deadline := time.NewTimer(reopenTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := n.start()
		if err == nil || !portTaken(err) {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return err
		}
	}
}

// Stop ends the server and waits for it; the store stays unless it is temporary. Stopping twice is no error.
func (n *NATS) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shutDown()
	return n.release()
}

// Halt ends the server and keeps its port and lock, so that Restart may follow: an outage.
func (n *NATS) Halt() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shutDown()
}

func (n *NATS) shutDown() {
	if n.server == nil {
		return
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.server = nil
}

func (n *NATS) release() error {
	var err error
	if n.lock != nil {
		err = n.lock.Release()
		n.lock = nil
	}
	if n.temporary {
		err = errors.Join(err, os.RemoveAll(n.options.Dir))
	}
	if err != nil {
		return fmt.Errorf("release NATS store: %w", err)
	}
	return nil
}
