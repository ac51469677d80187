package leak

import (
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
)

// encrypterSubject is where the one message goes that may hold plaintext, and to which the answer may echo it.
const encrypterSubject = "crypto.people"

// ear keeps every message of every subject, but those between the fleet and the encrypter of the user's own.
type ear struct {
	conn *nats.Conn

	mu      sync.Mutex
	private map[string]bool // subjects of answers of the encrypter
	heard   map[string]int
	all     []byte
	asked   int
	make    func(request int, r messages.ExternalRequest) messages.ExternalAnswer
}

func listen(server *embedded.NATS) (*ear, error) {
	conn, err := nats.Connect(server.URL(), nats.Token(server.Token()))
	if err != nil {
		return nil, err
	}
	e := &ear{conn: conn, private: map[string]bool{}, heard: map[string]int{}}
	every, err := conn.Subscribe(">", e.hear)
	if err != nil {
		return nil, err
	}
	if err := every.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	return e, conn.Flush()
}

func (e *ear) hear(m *nats.Msg) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.Subject == encrypterSubject {
		e.private[m.Reply] = true
		e.answer(m)
		return
	}
	if e.private[m.Subject] {
		return
	}
	e.heard[kind(m.Subject)]++
	e.all = append(append(fmt.Appendf(e.all, "%s %s %v ", m.Subject, m.Reply, m.Header), m.Data...), '\n')
}

// kind is the first three tokens of a subject.
func kind(subject string) string {
	tokens := strings.SplitN(subject, ".", 4)
	return strings.Join(tokens[:min(3, len(tokens))], ".")
}

// answer answers as the encrypter does. It is called by the one goroutine that hears, so that the answer's subject is
// known before the answer comes by.
func (e *ear) answer(m *nats.Msg) {
	r, err := messages.ParseExternalRequest(m.Data)
	if err != nil || e.make == nil {
		return // nobody answers
	}
	body, err := e.make(e.asked, r).Marshal()
	if err != nil {
		return
	}
	e.asked++
	_ = m.Respond(body) // whoever asked may have gone
}

// set changes how the encrypter answers, and counts its requests anew.
func (e *ear) set(make func(int, messages.ExternalRequest) messages.ExternalAnswer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.make, e.asked = make, 0
}

func (e *ear) requests() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}

// text is all that was heard, and how many messages of which kind.
func (e *ear) text() ([]byte, map[string]int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all, e.heard
}
