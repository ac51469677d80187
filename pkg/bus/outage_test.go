package bus_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
)

// park begins a fetch that is waiting at the server when it returns.
func park(t *testing.T, q *queue, wait time.Duration) <-chan error {
	t.Helper()
	parked := make(chan error, 1)
	go func() {
		delivery, err := q.Fetch(t.Context(), wait)
		if delivery != nil {
			err = errors.New("a task came")
		}
		parked <- err
	}()
	waitForPulls(t, q, 1)
	return parked
}

// persist fetches as a worker would: again after every error that passes.
func persist(t *testing.T, q *queue) *bus.Delivery {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		delivery, err := q.Fetch(t.Context(), time.Second)
		switch {
		case delivery != nil:
			return delivery
		case err != nil && !errors.Is(err, bus.ErrUnreachable) && !errors.Is(err, bus.ErrNoQueue) && !errors.Is(err, bus.ErrNoJetStream):
			t.Fatal(err)
		}
	}
	t.Fatal("no task within a minute")
	return nil
}

func TestAFetchEndsWithTheServerAndTheNextOneWorks(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	parked := park(t, q, 2*time.Minute)
	q.server.Halt()
	within(t, time.Minute, func() { isError(t, <-parked, bus.ErrUnreachable) })
	within(t, 30*time.Second, func() {
		_, err := q.Fetch(t.Context(), 300*time.Millisecond)
		isError(t, err, bus.ErrUnreachable)
	})
	if err := q.server.Restart(); err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() { published <- q.Publish(t.Context(), tasks(1)) }()
	if delivery := persist(t, q); delivery.Task != task(1) {
		t.Errorf("delivered is %+v", delivery.Task)
	}
	if err := <-published; err != nil {
		t.Error(err)
	}
}

func TestTasksOutliveARestart(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.publish(t, tasks(3)...)
	held := q.fetch(t)
	before, err := q.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := q.server.Restart(); err != nil {
		t.Fatal(err)
	}
	if next := persist(t, q); next.Task == held.Task {
		t.Error("the task in hand was delivered again at once")
	}
	if err := held.Ack(t.Context()); err != nil { // of a delivery from before the restart
		t.Error(err)
	}
	after, err := q.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("identity was %v and is %v", before, after)
	}
	if stored := q.stored(t, messages.StreamWork).Msgs; stored != 2 {
		t.Errorf("%d tasks are stored", stored)
	}
}

func TestAFetchSurvivesTheLossOfTheQueue(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	for name, lose := range map[string]func() error{
		"consumer": func() error { return q.js.DeleteConsumer(t.Context(), messages.StreamWork, messages.ConsumerWorkers) },
		"stream":   func() error { return q.js.DeleteStream(t.Context(), messages.StreamWork) },
	} {
		parked := park(t, q, 2*time.Minute)
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, func() { isError(t, <-parked, bus.ErrNoQueue) })
		within(t, time.Minute, func() {
			_, err := q.Fetch(t.Context(), 5*time.Second)
			isError(t, err, bus.ErrNoQueue)
		})
		if _, err := q.Ensure(t.Context(), bus.Settings{}); err != nil {
			t.Fatal(err)
		}
		again := task(1)
		again.Job = name
		q.publish(t, again)
		delivery := q.fetch(t)
		if err := delivery.Ack(t.Context()); err != nil || delivery.Task != again {
			t.Errorf("delivered is %+v, %v", delivery.Task, err)
		}
	}
}

func TestAFetchSurvivesAWipedStore(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.publish(t, tasks(3)...)
	if err := q.fetch(t).Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.server.WipeStore(); err != nil {
		t.Fatal(err)
	}
	_, err := q.Fetch(t.Context(), time.Second)
	if !errors.Is(err, bus.ErrNoQueue) && !errors.Is(err, bus.ErrUnreachable) {
		t.Errorf("error is %v", err)
	}
	if _, err := q.Ensure(t.Context(), bus.Settings{}); err != nil {
		t.Fatal(err)
	}
	q.publish(t, task(9))
	if delivery := persist(t, q); delivery.Task != task(9) {
		t.Errorf("delivered is %+v", delivery.Task)
	}
}
