package bus_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestWhyAConnectFails(t *testing.T) {
	t.Parallel()
	server := testenv.OwnNATS(t)
	missing := filepath.Join(t.TempDir(), "missing")
	for name, test := range map[string]struct {
		config bus.Config
		wanted error
	}{
		"no URL":          {bus.Config{}, bus.ErrSettings},
		"no host":         {bus.Config{URL: "nats://"}, bus.ErrSettings},
		"no token file":   {bus.Config{URL: server.URL(), TokenFile: missing}, bus.ErrSettings},
		"no credentials":  {bus.Config{URL: server.URL(), Creds: missing}, bus.ErrSettings},
		"no authorities":  {bus.Config{URL: server.URL(), CA: missing}, bus.ErrSettings},
		"nobody listens":  {bus.Config{URL: "nats://" + closedPort(t)}, bus.ErrUnreachable},
		"no token":        {bus.Config{URL: server.URL()}, bus.ErrDenied},
		"wrong token":     {bus.Config{URL: server.URL(), Token: "wrong"}, bus.ErrDenied},
		"wrong file":      {bus.Config{URL: server.URL(), TokenFile: write(t, "wrong\n")}, bus.ErrDenied},
		"denied at once":  {bus.Config{URL: server.URL(), Token: "wrong", Patience: time.Hour}, bus.ErrDenied},
		"token in no URL": {bus.Config{URL: "nats://secret@" + closedPort(t)}, bus.ErrUnreachable},
	} {
		_, err := bus.Connect(t.Context(), test.config)
		isError(t, err, test.wanted)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error holds the token: %v", name, err)
		}
	}
}

func TestErrorsOfAURLHideItsPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"nats://ada:se%cret@h:1", "ada:secret@127.0.0.1:1", "nats://secret@127.0.0.1:1,nats://a:secret@127.0.0.1:1"} {
		_, err := bus.Connect(t.Context(), bus.Config{URL: url})
		if err == nil || strings.Contains(err.Error(), "cret") || !strings.HasPrefix(url, "nats://ada") && !strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Errorf("error is %v", err)
		}
	}
}

func TestPatienceWaitsForTheServer(t *testing.T) {
	t.Parallel()
	server := testenv.OwnNATS(t)
	server.Halt()
	started := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	go func() {
		b, err := bus.Connect(ctx, bus.Config{URL: server.URL(), TokenFile: server.TokenFile(), Patience: 2 * time.Minute})
		if err == nil {
			b.Close()
		}
		started <- err
	}()
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Error(err)
	}
}

func TestImpatienceEndsWithItsTime(t *testing.T) {
	t.Parallel()
	within(t, time.Minute, func() {
		_, err := bus.Connect(t.Context(), bus.Config{URL: "nats://" + closedPort(t), Patience: 300 * time.Millisecond})
		isError(t, err, bus.ErrUnreachable)
	})
}

func TestInProcessNeedsNoURL(t *testing.T) {
	t.Parallel()
	server := testenv.OwnNATS(t)
	b, err := bus.Connect(t.Context(), bus.Config{InProcess: server, Token: server.Token()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestATokenFileIsReadAtEveryConnect(t *testing.T) {
	t.Parallel()
	first := testenv.OwnNATS(t)
	file := write(t, first.Token())
	b, err := bus.Connect(t.Context(), bus.Config{URL: first.URL(), TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := os.WriteFile(file, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Restart(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		if b.Ready(t.Context()) == nil {
			return fmt.Errorf("connected with a token that is no longer there")
		}
		return nil
	})
	if err := os.WriteFile(file, []byte(first.Token()), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error { return b.Ready(t.Context()) })
}

func TestDrainEndsWhileTheServerIsGone(t *testing.T) {
	t.Parallel()
	server := testenv.OwnNATS(t)
	b := connect(t, server, bus.Config{})
	server.Halt()
	testenv.Eventually(t, time.Minute, func() error {
		if b.Ready(t.Context()) == nil {
			return fmt.Errorf("still connected")
		}
		return nil
	})
	within(t, time.Minute, func() {
		if err := b.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
	_, err := b.Fetch(t.Context(), time.Second)
	isError(t, err, bus.ErrClosed)
}

// plainServer starts a server that pkg/embedded would not: without JetStream, or with users.
func plainServer(t *testing.T, options server.Options) string {
	t.Helper()
	options.Host, options.Port, options.NoSigs, options.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not listen")
	}
	return s.ClientURL()
}

func TestAServerWithoutJetStream(t *testing.T) {
	t.Parallel()
	b, err := bus.Connect(t.Context(), bus.Config{URL: plainServer(t, server.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, err = b.Ensure(t.Context(), bus.Settings{})
	isError(t, err, bus.ErrNoJetStream)
	_, err = b.Fetch(t.Context(), time.Second)
	isError(t, err, bus.ErrNoJetStream)
	_, err = b.Jobs(t.Context())
	isError(t, err, bus.ErrNoCoordinator)
}

func TestAUserWithoutPermissionsIsDenied(t *testing.T) {
	t.Parallel()
	url := plainServer(t, server.Options{
		JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"nothing"}},
		}}},
	})
	b, err := bus.Connect(t.Context(), bus.Config{URL: strings.Replace(url, "nats://", "nats://u:p@", 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = b.Identity(ctx)
	isError(t, err, bus.ErrDenied)
	within(t, 25*time.Second, func() { // a request would wait for half a minute
		isError(t, b.Publish(t.Context(), []messages.Task{task(1), task(2)}), bus.ErrDenied)
		isError(t, b.Publish(t.Context(), []messages.Task{task(1)}), bus.ErrDenied)
		_, err = b.Jobs(t.Context())
		isError(t, err, bus.ErrDenied)
	})
}

func TestAServerThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	url := plainServer(t, server.Options{})
	silent, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := silent.Subscribe("$JS.API.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := silent.Flush(); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Connect(t.Context(), bus.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	within(t, 30*time.Second, func() {
		_, err := b.Fetch(t.Context(), time.Minute)
		isError(t, err, bus.ErrUnreachable)
	})
}
