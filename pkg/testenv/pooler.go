package testenv

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Pooler stands in front of a database and hands every transaction the session that was given back last, as PgBouncer
// does in transaction mode: what a client keeps in a session, it finds in another one's, or not at all. It returns the
// URL to connect to. Sessions is how many it has to give away. COPY does not go through it.
func Pooler(t testing.TB, databaseURL string, sessions int) string {
	t.Helper()
	p := &pooler{database: databaseURL, free: make(chan struct{}, sessions)}
	for range sessions {
		if err := p.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.greeting = p.idle[0].ParameterStatuses
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.running.Go(func() { p.listen(ctx, listener) })
	t.Cleanup(func() {
		cancel()
		listener.Close() //nolint:errcheck // nobody connects any more
		p.running.Wait()
		for _, server := range p.idle {
			server.Conn.Close() //nolint:errcheck // its database is dropped
		}
	})
	at, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	at.Host = listener.Addr().String()
	query := at.Query()
	query.Set("sslmode", "disable")
	query.Del("host")
	at.RawQuery = query.Encode()
	return at.String()
}

type pooler struct {
	database string // its URL
	greeting map[string]string
	running  sync.WaitGroup
	free     chan struct{}
	mu       sync.Mutex
	idle     []*pgconn.HijackedConn // the last one goes out first
}

func (p *pooler) listen(ctx context.Context, listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { client.Close() }) //nolint:errcheck // the test is over
		p.running.Go(func() {
			defer stop()
			defer client.Close() //nolint:errcheck // it said goodbye
			_ = p.serve(ctx, client)
		})
	}
}

// serve greets a client and carries its transactions.
func (p *pooler) serve(ctx context.Context, client net.Conn) error {
	backend := pgproto3.NewBackend(client, client)
	if err := p.greet(client, backend); err != nil {
		return err
	}
	for {
		first, err := backend.Receive()
		if err != nil {
			return err
		}
		if _, ends := first.(*pgproto3.Terminate); ends {
			return nil
		}
		server, err := p.take(ctx)
		if err != nil {
			return err
		}
		if err := carry(backend, server.Frontend, first); err != nil {
			server.Conn.Close() //nolint:errcheck // a session in the middle of something is for nobody else
			return errors.Join(err, p.open(ctx))
		}
		p.give(server) // before the client hears of it, so that its next transaction can have it
		if err := backend.Flush(); err != nil {
			return err
		}
	}
}

// greet lets anybody in, with a key that belongs to no session: a pooler's own.
func (p *pooler) greet(client net.Conn, backend *pgproto3.Backend) error {
	for {
		message, err := backend.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		switch message.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := client.Write([]byte("N")); err != nil {
				return err
			}
		case *pgproto3.StartupMessage:
			backend.Send(&pgproto3.AuthenticationOk{})
			for name, value := range p.greeting {
				backend.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
			}
			backend.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
			backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			return backend.Flush()
		default:
			return errors.New("the pooler cancels nothing")
		}
	}
}

// open has one session more to give away.
func (p *pooler) open(ctx context.Context) error {
	server, err := pgconn.Connect(ctx, p.database)
	if err != nil {
		return err
	}
	hijacked, err := server.Hijack()
	if err != nil {
		return err
	}
	p.give(hijacked)
	return nil
}

func (p *pooler) take(ctx context.Context) (*pgconn.HijackedConn, error) {
	select {
	case <-p.free:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	server := p.idle[last]
	p.idle = p.idle[:last]
	return server, nil
}

func (p *pooler) give(server *pgconn.HijackedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, server)
	p.free <- struct{}{}
}

// carry hands on one transaction: what the client asks up to a point where it waits, then the answers, until the session
// is in no transaction any more. The last answers are left to be flushed.
func carry(client *pgproto3.Backend, server *pgproto3.Frontend, message pgproto3.FrontendMessage) (err error) {
	for {
		server.Send(message)
		switch message.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			if err := server.Flush(); err != nil {
				return err
			}
			status, err := answer(client, server)
			if err != nil || status == 'I' {
				return err
			}
			if err := client.Flush(); err != nil {
				return err
			}
		}
		if message, err = client.Receive(); err != nil {
			return err
		}
	}
}

// answer takes down what the server says until it is ready, and how it stands then.
func answer(client *pgproto3.Backend, server *pgproto3.Frontend) (status byte, err error) {
	for {
		message, err := server.Receive()
		if err != nil {
			return 0, err
		}
		client.Send(message)
		if ready, is := message.(*pgproto3.ReadyForQuery); is {
			return ready.TxStatus, nil
		}
	}
}
