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
	for _, name := range []string{"one", "another"} {
		t.Run(name, func(t *testing.T) {
			server := testenv.NATS(t)
			js := dial(t, server.URL, server.TokenFile)
			config := jetstream.StreamConfig{Name: "CIPHERFLEET_WORK", Subjects: []string{"work"}}
			if _, err := js.CreateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), "work", nil); err != nil {
				t.Fatal(err)
			}
			if n := held(t, js, config.Name); n != 1 {
				t.Errorf("the stream of this test holds %d messages", n)
			}
		})
	}
}

func held(t *testing.T, js jetstream.JetStream, name string) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func dial(t *testing.T, url, tokenFile string) jetstream.JetStream {
	t.Helper()
	var options []nats.Option
	if tokenFile != "" {
		token, err := os.ReadFile(tokenFile)
		if err != nil {
			t.Fatal(err)
		}
		options = append(options, nats.Token(strings.TrimSpace(string(token))))
	}
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
