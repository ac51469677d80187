package chaos

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cipherfleet/cipherfleet/messages"
)

// ear hears every message that passes through NATS, whoever sends it.
type ear struct {
	conn *nats.Conn

	mu       sync.Mutex
	heard    int
	progress int
	leaks    []string                 // subjects of messages that hold what must not leave Postgres
	offers   []*nats.Msg              // the tasks, to be sent again
	handed   map[string]messages.Task // deliveries, by where they are to be acknowledged
	acks     []ack
}

// ack is a task that a worker took off the queue.
type ack struct {
	messages.Task
	at time.Time
}

func listenTo(q *queue) (*ear, error) {
	conn, err := q.connect(nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		return nil, err
	}
	e := &ear{conn: conn, handed: map[string]messages.Task{}}
	sub, err := e.conn.Subscribe(">", e.hear)
	if err != nil {
		return nil, err
	}
	return e, sub.SetPendingLimits(-1, -1)
}

func (e *ear) hear(m *nats.Msg) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard++
	text := m.Subject + " " + m.Reply + " " + fmt.Sprint(m.Header) + " " + string(m.Data)
	if leaks([]byte(text)) {
		e.leaks = append(e.leaks, m.Subject)
	}
	switch {
	case strings.HasPrefix(m.Reply, "$JS.ACK."): // a delivery bears the subject of what was published
		if task, err := messages.ParseTask(m.Data); err == nil {
			e.handed[m.Reply] = task
		}
	case strings.HasPrefix(m.Subject, "cipherfleet.v1.work."):
		e.offers = append(e.offers, m)
	case strings.HasPrefix(m.Subject, "cipherfleet.v1.evt."):
		e.progress++
	case strings.HasPrefix(m.Subject, "$JS.ACK.") && string(m.Data) == "+ACK":
		if task, known := e.handed[m.Subject]; known {
			e.acks = append(e.acks, ack{task, now})
		}
	}
}

// echo sends old offers again, out of order and without the ids by which the queue would know them.
func (e *ear) echo(r *rand.Rand, n int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n = min(n, len(e.offers))
	for range n {
		old := e.offers[r.IntN(len(e.offers))]
		_ = e.conn.Publish(old.Subject, old.Data) // it may be lost: that is the point
	}
	return n
}

// leaks says whether a value or a key of the application shows.
func leaks(text []byte) bool {
	return bytes.Contains(text, []byte(plainMark)) || bytes.Contains(text, []byte(keyMark))
}
