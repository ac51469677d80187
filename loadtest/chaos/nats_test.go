package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cipherfleet/cipherfleet/pkg/embedded"
)

// beNATS is what this test's binary does when it is a NATS server, in a process that can be killed.
func beNATS(dir string, port int) int {
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: dir, Port: port})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// queue is NATS in a process of its own.
type queue struct {
	*child
	dir  string
	port int
}

func newQueue(dir string, crash func(string, int)) (*queue, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	q := &queue{dir: filepath.Join(dir, "nats"), port: port}
	q.child = &child{name: "nats", argv: []string{program, "-nats-dir", q.dir, "-nats-port", strconv.Itoa(port)}, log: filepath.Join(dir, "nats.log"), crash: crash}
	return q, nil
}

func (q *queue) url() string       { return "nats://127.0.0.1:" + strconv.Itoa(q.port) }
func (q *queue) tokenFile() string { return filepath.Join(q.dir, "token") }

// wipe deletes every stream and consumer; the token stays, as it would in a deployment.
func (q *queue) wipe() error { return os.RemoveAll(filepath.Join(q.dir, "jetstream")) }

// up starts the server and waits until it lets us in.
func (q *queue) up(ctx context.Context) error {
	if err := q.start(); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		conn, err := q.connect(nats.Timeout(time.Second))
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// connect opens a connection beside those of the fleet.
func (q *queue) connect(options ...nats.Option) (*nats.Conn, error) {
	token, err := os.ReadFile(q.tokenFile())
	if err != nil {
		return nil, err
	}
	return nats.Connect(q.url(), append(options, nats.Token(strings.TrimSpace(string(token))))...)
}

// eventually tries until it succeeds or ctx ends.
func eventually(ctx context.Context, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// rest waits; it reports whether ctx is still alive.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
