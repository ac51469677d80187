package testenv_test

import (
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestEachTestHasItsOwnNATS(t *testing.T) {
	t.Parallel()
	for range 2 {
		server := testenv.NATS(t)
		js := dial(t, server)
		config := jetstream.StreamConfig{Name: "CIPHERFLEET_WORK", Subjects: []string{"work"}}
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "work", nil); err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), config.Name)
		if err != nil {
			t.Fatal(err)
		}
		if n := stream.CachedInfo().State.Msgs; n != 1 {
			t.Errorf("the stream of this test holds %d messages", n)
		}
	}
}

func dial(t *testing.T, server testenv.NATSServer) jetstream.JetStream {
	t.Helper()
	token, err := os.ReadFile(server.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(server.URL, nats.Token(strings.TrimSpace(string(token))))
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
