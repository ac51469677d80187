package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestNobodyWaitsForAnAnswerThatTheLostConnectionTookAlong: somebody takes the requests and never answers; then the
// server goes. Whoever asked must be able to ask again at once.
func TestNobodyWaitsForAnAnswerThatTheLostConnectionTookAlong(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*bus.Bus) error{
		"publish one": func(b *bus.Bus) error { return b.Publish(t.Context(), tasks(1)) },
		"publish two": func(b *bus.Bus) error { return b.Publish(t.Context(), tasks(2)) },
		"request": func(b *bus.Bus) error {
			_, err := b.Job(t.Context(), messages.JobRequest{Job: job})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.OwnNATS(t)
			silent, err := nats.Connect(server.URL(), nats.Token(strings.TrimSpace(server.Token())))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(silent.Close)
			taken := make(chan *nats.Msg, 10)
			if _, err := silent.ChanSubscribe("cipherfleet.v1.>", taken); err != nil {
				t.Fatal(err)
			}
			if err := silent.Flush(); err != nil {
				t.Fatal(err)
			}
			b, asked := connect(t, server, bus.Config{}), make(chan error, 1)
			go func() { asked <- ask(b) }()
			<-taken
			server.Halt()
			within(t, 25*time.Second, func() { isError(t, <-asked, bus.ErrUnreachable) })
		})
	}
}
