package embedded

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func startNATS(t *testing.T, o NATSOptions) *NATS {
	t.Helper()
	server, err := StartNATS(o)
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

func dial(t *testing.T, url string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func keepOne(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	config := jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}, Storage: jetstream.FileStorage}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "kept", []byte("x")); err != nil {
		t.Fatal(err)
	}
}

func kept(t *testing.T, js jetstream.JetStream) (uint64, error) {
	t.Helper()
	stream, err := js.Stream(t.Context(), "KEPT")
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.Msgs, nil
}

func TestNATSKeepsItsStoreAndPortOverARestart(t *testing.T) {
	t.Parallel()
	server := startNATS(t, NATSOptions{})
	url := server.URL()
	keepOne(t, dial(t, url, nats.Token(server.Token())))
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if server.URL() != url {
		t.Error("the URL changed over the restart")
	}
	if n, err := kept(t, dial(t, url, nats.Token(server.Token()))); n != 1 || err != nil {
		t.Errorf("the stream holds %d messages, %v", n, err)
	}
}

func TestWipeStoreLosesEverything(t *testing.T) {
	t.Parallel()
	server := startNATS(t, NATSOptions{})
	keepOne(t, dial(t, server.URL(), nats.Token(server.Token())))
	if err := server.WipeStore(); err != nil {
		t.Fatal(err)
	}
	_, err := kept(t, dial(t, server.URL(), nats.Token(server.Token())))
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestNATSDemandsItsToken(t *testing.T) {
	t.Parallel()
	server := startNATS(t, NATSOptions{})
	if conn, err := nats.Connect(server.URL()); !errors.Is(err, nats.ErrAuthorization) {
		conn.Close()
		t.Errorf("without a token: %v", err)
	}
	info, err := os.Stat(server.TokenFile())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the token file has mode %v", info.Mode())
	}
}

func TestNATSInProcessReconnectsAfterARestart(t *testing.T) {
	t.Parallel()
	server := startNATS(t, NATSOptions{})
	back := make(chan struct{}, 1)
	js := dial(t, "", nats.InProcessServer(server), nats.Token(server.Token()), nats.MaxReconnects(-1),
		nats.ReconnectWait(10*time.Millisecond), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	keepOne(t, js)
	server.Halt()
	if _, err := server.InProcessConn(); err == nil {
		t.Error("a stopped server gave a connection")
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-back:
	case <-time.After(time.Minute):
		t.Fatal("the client did not come back")
	}
	if n, err := kept(t, js); n != 1 || err != nil {
		t.Errorf("the stream holds %d messages, %v", n, err)
	}
}

func TestOneStoreOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startNATS(t, NATSOptions{Dir: dir})
	if _, err := StartNATS(NATSOptions{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Fatalf("a second server on the store: %v", err)
	}
	token := first.Token()
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if second := startNATS(t, NATSOptions{Dir: dir, Token: "another"}); second.Token() != token {
		t.Error("the token changed between two starts on one folder")
	}
}

func TestNATSStopLeavesNothing(t *testing.T) {
	t.Parallel()
	server, err := StartNATS(NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(server.TokenFile())
	for range 2 { // the second is no error
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary folder: %v", err)
	}
	if err := server.Restart(); err == nil {
		t.Error("a server came back after Stop")
	}
}

func TestNATSOnATakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = StartNATS(NATSOptions{Port: taken.Addr().(*net.TCPAddr).Port})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("got %v", err)
	}
}

func TestNATSOnAStoreItCannotUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := StartNATS(NATSOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "JetStream") {
		t.Fatalf("got %v", err)
	}
}

func TestNATSFlushesEachWriteUnlessRelaxed(t *testing.T) {
	t.Parallel()
	for _, relaxed := range []bool{false, true} {
		server := startNATS(t, NATSOptions{Relaxed: relaxed})
		if got := server.server.JetStreamConfig().SyncAlways; got == relaxed {
			t.Errorf("relaxed %v: sync always is %v", relaxed, got)
		}
	}
}

func TestNATSRestartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	server := startNATS(t, NATSOptions{})
	server.Halt()
	taken, err := net.Listen("tcp", hostPort(server.port))
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { taken.Close() })
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
}
