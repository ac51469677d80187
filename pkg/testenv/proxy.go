package testenv

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// EncryptingProxy stands in front of a database and speaks its protocol, as a proxy that encrypts does: whoever sets its
// column to a parameter sets it to what the proxy makes of that, and everything else passes as it is. Its fields are set
// before the first connection.
type EncryptingProxy struct {
	Target  string                    // the column
	Payload func(plain string) string // what is stored for a value; NULL stays NULL
	As      string                    // SQL that brings a payload, %s, to the column's type
	Rewrite func(query string) string // nil, or a last change of a query that sets the column
	Dies    func() bool               // nil, or asked before each value: the connection ends there
	to      *pgconn.Config
	done    sync.WaitGroup
	mu      sync.Mutex
	open    map[net.Conn]bool
	stopped bool
}

// Start listens until the test ends, and returns the URL of the database as it is seen through the proxy.
func (p *EncryptingProxy) Start(t testing.TB, database string) string {
	t.Helper()
	to, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.to, p.open = to, map[net.Conn]bool{}
	p.done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.done.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close() //nolint:errcheck // it only ends
		p.mu.Lock()
		p.stopped = true
		for conn := range p.open {
			conn.Close() //nolint:errcheck // it only ends
		}
		p.mu.Unlock()
		p.done.Wait()
	})
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.Host, u.RawQuery = listener.Addr().String(), "sslmode=disable"
	return u.String()
}

// keep remembers a connection that has to end with the test.
func (p *EncryptingProxy) keep(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[conn] = true; p.stopped {
		conn.Close() //nolint:errcheck // it only ends
	}
}

// serve carries one connection to its end, whatever ends it.
func (p *EncryptingProxy) serve(client net.Conn) {
	p.keep(client)
	defer client.Close() //nolint:errcheck // it only ends
	backend := pgproto3.NewBackend(client, client)
	startup, err := backend.ReceiveStartupMessage()
	if _, ask := startup.(*pgproto3.StartupMessage); err != nil || !ask {
		return
	}
	server, err := p.connect(startup.(*pgproto3.StartupMessage))
	if err != nil {
		return
	}
	p.keep(server.Conn)
	defer server.Conn.Close() //nolint:errcheck // it only ends
	backend.Send(&pgproto3.AuthenticationOk{})
	for name, value := range server.ParameterStatuses {
		backend.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	backend.Send(&pgproto3.BackendKeyData{ProcessID: server.PID, SecretKey: server.SecretKey})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if backend.Flush() != nil {
		return
	}
	p.done.Go(func() {
		defer client.Close()         //nolint:errcheck // it only ends
		io.Copy(client, server.Conn) //nolint:errcheck // the end of either is the end
	})
	p.relay(backend, server.Conn)
}

// connect logs in to the server with what the client asks for, but as the database's own user.
func (p *EncryptingProxy) connect(startup *pgproto3.StartupMessage) (*pgconn.HijackedConn, error) {
	config := p.to.Copy()
	for name, value := range startup.Parameters {
		if name != "user" && name != "database" {
			config.RuntimeParams[name] = value
		}
	}
	conn, err := pgconn.ConnectConfig(context.Background(), config)
	if err != nil {
		return nil, err
	}
	if err := conn.SyncConn(context.Background()); err != nil { // or what reads ahead after a slow write has the first answer
		conn.Conn().Close() //nolint:errcheck // it is no good
		return nil, err
	}
	return conn.Hijack()
}

// relay hands on what the client sends.
func (p *EncryptingProxy) relay(backend *pgproto3.Backend, server net.Conn) {
	frontend := pgproto3.NewFrontend(server, server)
	encrypts := map[string]bool{} // prepared statements whose first parameter is a value of the column
	for {
		message, err := backend.Receive()
		if err != nil {
			return
		}
		switch m := message.(type) {
		case *pgproto3.Parse:
			m.Query, encrypts[m.Name] = p.rewritten(m.Query)
			if encrypts[m.Name] && len(m.ParameterOIDs) > 0 {
				m.ParameterOIDs[0] = 0
			}
		case *pgproto3.Bind:
			if encrypts[m.PreparedStatement] {
				if p.Dies != nil && p.Dies() {
					return
				}
				if plain := m.Parameters[0]; plain != nil {
					m.Parameters[0] = []byte(p.Payload(string(plain)))
				}
			}
		}
		frontend.Send(message)
		if frontend.Flush() != nil {
			return
		}
	}
}

func (p *EncryptingProxy) rewritten(query string) (string, bool) {
	set := fmt.Sprintf(`SET "%s" = $1`, p.Target)
	if !strings.Contains(query, set) {
		return query, false
	}
	query = strings.Replace(query, set, fmt.Sprintf(`SET "%s" = `, p.Target)+fmt.Sprintf(p.As, "$1"), 1)
	if p.Rewrite != nil {
		query = p.Rewrite(query)
	}
	return query, true
}
