package bus_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// bodies returns what is stored, in order, without taking it.
func (q *queue) bodies(t *testing.T, stream string) []*jetstream.RawStreamMsg {
	t.Helper()
	found, err := q.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	state := found.CachedInfo().State
	var all []*jetstream.RawStreamMsg
	for sequence := state.FirstSeq; sequence <= state.LastSeq && state.Msgs > 0; sequence++ {
		message, err := found.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, message)
	}
	return all
}

func TestTasksAreStoredOnceAndInOrder(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	const count = 2501 // two whole batches, and a rest
	q.publish(t, tasks(count)...)
	stored := q.bodies(t, messages.StreamWork)
	if len(stored) != count {
		t.Fatalf("%d tasks are stored", len(stored))
	}
	for i, message := range stored {
		got, err := messages.ParseTask(message.Data)
		if err != nil || got != task(int64(i)+1) {
			t.Fatalf("task %d is %s, %v", i+1, message.Data, err)
		}
	}
	if head := stored[7]; head.Subject != "cipherfleet.v1.work."+job+".t16385" || head.Header.Get("Nats-Msg-Id") != job+"/8/1" ||
		head.Header.Get("Cipherfleet-Type") != "work.v1" {
		t.Errorf("a task has subject %s and headers %v", head.Subject, head.Header)
	}
}

func TestTheSameOfferIsStoredOnce(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.publish(t, task(1))
	q.publish(t, task(1))
	q.publish(t, tasks(3)...) // as a batch it is refused, for the first; one by one the others are new
	q.publish(t, tasks(3)...)
	again := task(1)
	again.Epoch = 2
	q.publish(t, again)
	if stored := q.stored(t, messages.StreamWork).Msgs; stored != 4 {
		t.Errorf("%d tasks are stored", stored)
	}
}

func TestAServerWithoutBatchesGetsSingleTasks(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	found, err := q.js.Stream(t.Context(), messages.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	config := found.CachedInfo().Config
	config.AllowAtomicPublish = false
	if _, err := q.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	q.publish(t, tasks(300)...)
	if stored := q.stored(t, messages.StreamWork).Msgs; stored != 300 {
		t.Errorf("%d tasks are stored", stored)
	}
}

func TestManyPublishersAtOnce(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	var publishers sync.WaitGroup
	const publisherCount, each = 80, 20 // more batches than a server keeps open
	for p := range int64(publisherCount) {
		publishers.Go(func() {
			batch := tasks(each)
			for i := range batch {
				batch[i].Range += p * each
			}
			if err := q.Publish(t.Context(), batch); err != nil {
				t.Error(err)
			}
		})
	}
	publishers.Wait()
	if stored := q.stored(t, messages.StreamWork).Msgs; stored != publisherCount*each {
		t.Errorf("%d tasks are stored", stored)
	}
}

func TestAFullQueueSaysSo(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{MaxTasks: 5})
	isError(t, q.Publish(t.Context(), tasks(6)), bus.ErrFull)
	if stored := q.stored(t, messages.StreamWork).Msgs; stored != 0 {
		t.Errorf("%d tasks of a batch that does not fit are stored", stored)
	}
	q.publish(t, tasks(5)...)
	isError(t, q.Publish(t.Context(), []messages.Task{task(6)}), bus.ErrFull)
	isError(t, q.Publish(t.Context(), []messages.Task{task(6), task(7)}), bus.ErrFull)
	if err := q.fetch(t).Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.publish(t, task(6))
}

func TestNothingToPublishIsNoError(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	if err := q.Publish(t.Context(), nil); err != nil {
		t.Error(err)
	}
	isError(t, q.Publish(t.Context(), []messages.Task{{Job: "a.b"}}), messages.ErrMalformed)
	isError(t, q.Emit(t.Context(), messages.Progress{}), messages.ErrMalformed)
	isError(t, q.DeadLetter(t.Context(), messages.DeadLetter{}), messages.ErrMalformed)
}

func TestPublishingWithoutAServerIsToldInTime(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.server.Halt()
	ctx, cancel := withTimeout(t, 2*time.Second)
	defer cancel()
	within(t, time.Minute, func() { isError(t, q.Publish(ctx, tasks(3)), bus.ErrUnreachable) })
	ctx, cancel = withTimeout(t, 2*time.Second)
	defer cancel()
	within(t, time.Minute, func() { isError(t, q.Publish(ctx, tasks(1)), bus.ErrUnreachable) })
}

func TestProgressIsKeptForDisplays(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	sent := messages.Progress{V: 1, Kind: messages.KindCheckpoint, Job: job, Range: 4, Rows: 500, Worker: "w", At: time.Now().UTC().Round(0)}
	if err := q.Emit(t.Context(), sent); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		if stored := q.stored(t, messages.StreamEvents).Msgs; stored != 1 {
			return fmt.Errorf("%d messages are stored", stored)
		}
		return nil
	})
	stored := q.bodies(t, messages.StreamEvents)
	if stored[0].Subject != "cipherfleet.v1.evt."+job+".checkpoint" {
		t.Fatalf("stored is %v", stored)
	}
	if got, err := messages.ParseProgress(stored[0].Data); err != nil || got != sent {
		t.Errorf("progress is %+v, %v", got, err)
	}
}

func TestADeadLetterIsStoredOnce(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	letter := messages.DeadLetter{Job: job, Range: 4, Table: "t7", Epoch: 2, Attempts: 3, Class: "data"}
	for range 2 {
		if err := q.DeadLetter(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	stored := q.bodies(t, messages.StreamDLQ)
	if len(stored) != 1 || stored[0].Subject != fmt.Sprintf("cipherfleet.v1.dlq.%s.t7", job) {
		t.Fatalf("stored is %v", stored)
	}
}
