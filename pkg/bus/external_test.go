package bus_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestAnEncrypterIsAskedAgainUntilItAnswers(t *testing.T) {
	t.Parallel()
	server := testenv.OwnNATS(t)
	theirs, err := nats.Connect(server.URL(), nats.Token(server.Token()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(theirs.Close)
	ours, err := bus.Connect(t.Context(), bus.Config{URL: server.URL(), Token: server.Token()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ours.Close)
	var asked atomic.Int32
	_, err = theirs.Subscribe("crypto.users", func(m *nats.Msg) {
		request, err := messages.ParseExternalRequest(m.Data)
		if err != nil || len(request.Values) != 1 {
			t.Errorf("the request cannot be read: %v", err)
			return
		}
		answer := messages.ExternalAnswer{Error: "the key service is down"}
		if asked.Add(1) > 2 {
			answer = messages.ExternalAnswer{Results: []messages.ExternalResult{{ID: 0, Value: []byte(`"sealed"`)}}}
		}
		body, _ := answer.Marshal()
		if err := m.Respond(body); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	request := messages.ExternalRequest{Table: "public.users", Column: "email", Values: []messages.ExternalValue{{Value: "a"}}}
	answer, err := ours.External(t.Context(), "crypto.users", request)
	if err != nil || len(answer.Results) != 1 || asked.Load() != 3 {
		t.Errorf("asked %d times, got %d results, %v", asked.Load(), len(answer.Results), err)
	}
	if _, err := ours.External(t.Context(), "crypto.nobody", request); !errors.Is(err, bus.ErrEncrypter) {
		t.Errorf("nobody listens: %v", err)
	}
}
