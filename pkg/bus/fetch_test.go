package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func withTimeout(t *testing.T, most time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), most)
}

func TestATaskIsTakenOnceAndAcknowledged(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.publish(t, task(1))
	delivery := q.fetch(t)
	if delivery.Task != task(1) || delivery.Attempt != 1 {
		t.Errorf("delivered is %+v at attempt %d", delivery.Task, delivery.Attempt)
	}
	if waiting, held := q.held(t); waiting != 0 || held != 1 {
		t.Errorf("%d wait and %d are held", waiting, held)
	}
	q.nothing(t, 100*time.Millisecond)
	if err := delivery.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stored := q.stored(t, messages.StreamWork).Msgs; stored != 0 {
		t.Errorf("%d tasks are stored after the acknowledgement", stored)
	}
}

func TestAWorkerTakesOneTaskAtATime(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.publish(t, tasks(50)...)
	q.fetch(t)
	if waiting, held := q.held(t); waiting != 49 || held != 1 {
		t.Errorf("%d wait and %d are held", waiting, held)
	}
}

func TestATaskHandedBackComesAfterItsDelay(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{AckWait: 10 * time.Minute}) // nothing but the delay brings it back
	q.publish(t, task(1))
	for attempt := 1; attempt <= 3; attempt++ { // the second and third delay are as exact as the first
		const delay = 400 * time.Millisecond
		delivery := q.fetch(t)
		if delivery.Attempt != attempt {
			t.Errorf("attempt %d says %d", attempt, delivery.Attempt)
		}
		start := time.Now()
		if err := delivery.Nak(delay); err != nil {
			t.Fatal(err)
		}
		delivery = q.fetch(t)
		if took := time.Since(start); took < delay {
			t.Errorf("the task came back after %s", took)
		}
		if err := delivery.Nak(0); err != nil {
			t.Fatal(err)
		}
		attempt++
	}
}

func TestASilentWorkerLosesItsTask(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{AckWait: time.Second})
	q.publish(t, task(1))
	first := q.fetch(t)
	second := q.fetch(t)
	if second.Task != task(1) || second.Attempt != 2 {
		t.Errorf("delivered is %+v at attempt %d", second.Task, second.Attempt)
	}
	// The queue fences nothing: both acknowledgements succeed, and Postgres must know better.
	for _, delivery := range []*bus.Delivery{first, second} {
		if err := delivery.Ack(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestSignsOfLifeKeepATask(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{AckWait: 10 * time.Second})
	q.publish(t, task(1))
	delivery := q.fetch(t)
	for range 5 {
		q.nothing(t, 2200*time.Millisecond) // five times: longer than the task would stay
		if err := delivery.InProgress(); err != nil {
			t.Fatal(err)
		}
	}
	if err := delivery.Ack(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheHeartbeatFollowsTheConsumer(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{AckWait: 6 * time.Second})
	q.publish(t, task(1))
	if every := q.fetch(t).Heartbeat; every != 2*time.Second {
		t.Errorf("a sign of life is due every %s", every)
	}
}

func TestATaskOfAnotherVersionIsNeverDropped(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	subject := messages.WorkSubject(job, "t16385")
	if _, err := q.js.Publish(t.Context(), subject, []byte(`{"v":2,"job":"`+job+`","range":"new form"}`)); err != nil {
		t.Fatal(err)
	}
	q.publish(t, task(7))
	if delivery := q.fetch(t); delivery.Task != task(7) {
		t.Errorf("delivered is %+v", delivery.Task)
	}
	q.nothing(t, 100*time.Millisecond)
	if waiting, held := q.held(t); waiting+held != 2 {
		t.Errorf("%d wait and %d are held", waiting, held)
	}
	if stored := q.stored(t, messages.StreamWork).Msgs; stored != 2 {
		t.Errorf("%d tasks are stored", stored)
	}
	if dead := q.stored(t, messages.StreamDLQ).Msgs; dead != 0 {
		t.Errorf("%d dead letters are stored", dead)
	}
	if err := q.log.has("a task has a version that this worker does not know"); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoTaskBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	for _, body := range []string{"secret value", `{"v":1,"job":"x"}`} {
		if _, err := q.js.Publish(t.Context(), messages.WorkSubject(job, "t16385"), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.js.Publish(t.Context(), "cipherfleet.v1.work.alone", []byte("secret value")); err != nil {
		t.Fatal(err)
	}
	q.publish(t, task(7))
	if delivery := q.fetch(t); delivery.Task != task(7) {
		t.Errorf("delivered is %+v", delivery.Task)
	}
	var subjects []string
	for _, dead := range q.bodies(t, messages.StreamDLQ) {
		subjects = append(subjects, dead.Subject)
		letter, err := messages.ParseDeadLetter(dead.Data)
		if err != nil || letter.Class != messages.ClassMalformed || letter.Attempts != 1 {
			t.Errorf("dead letter is %s, %v", dead.Data, err)
		}
	}
	wanted := []string{messages.DeadSubject(job, "t16385"), messages.DeadSubject(job, "t16385"), messages.DeadSubject("unknown", "unknown")}
	if fmt.Sprint(subjects) != fmt.Sprint(wanted) {
		t.Errorf("dead letters are %v", subjects)
	}
	testenv.Eventually(t, time.Minute, func() error {
		if stored := q.stored(t, messages.StreamWork).Msgs; stored != 1 {
			return fmt.Errorf("%d tasks are stored", stored)
		}
		return nil
	})
	if err := q.log.has("secret"); err == nil {
		t.Error("the log shows a body")
	}
}

func TestABuriedTaskLeavesALetter(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.publish(t, task(3))
	if err := q.fetch(t).Bury(t.Context(), "data", 5); err != nil {
		t.Fatal(err)
	}
	dead := q.bodies(t, messages.StreamDLQ)
	if len(dead) != 1 {
		t.Fatalf("%d dead letters are stored", len(dead))
	}
	letter, err := messages.ParseDeadLetter(dead[0].Data)
	if err != nil || letter.Range != 3 || letter.Attempts != 5 || letter.Class != "data" || letter.Table != "t16385" {
		t.Errorf("dead letter is %s, %v", dead[0].Data, err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		if stored := q.stored(t, messages.StreamWork).Msgs; stored != 0 {
			return fmt.Errorf("%d tasks are stored", stored)
		}
		return nil
	})
}

func TestATaskIsNotRemovedBeforeItsLetterIsWritten(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.publish(t, task(3))
	delivery := q.fetch(t)
	if err := q.js.DeleteStream(t.Context(), messages.StreamDLQ); err != nil {
		t.Fatal(err)
	}
	isError(t, delivery.Bury(t.Context(), "data", 5), bus.ErrNoQueue)
	if err := q.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stored := q.stored(t, messages.StreamWork).Msgs; stored != 1 {
		t.Errorf("%d tasks are stored", stored)
	}
}

func TestAFetchGivenUpKeepsNoTask(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{AckWait: 10 * time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	parked := make(chan error, 1)
	go func() {
		_, err := q.Fetch(ctx, 2*time.Minute)
		parked <- err
	}()
	waitForPulls(t, q, 1)
	cancel()
	within(t, time.Minute, func() { isError(t, <-parked, context.Canceled) })
	// The pull still stands at the server and gets the task, not this fetch. It comes back at once.
	q.publish(t, task(1))
	if delivery := q.fetch(t); delivery.Task != task(1) {
		t.Errorf("delivered is %+v", delivery.Task)
	}
	if _, err := q.Fetch(cancelled(t), time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestDrainHandsBackWhatArrivesLate(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{AckWait: 10 * time.Minute})
	other := connect(t, q.server, bus.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	parked := make(chan struct{})
	go func() {
		defer close(parked)
		_, _ = other.Fetch(ctx, 2*time.Minute)
	}()
	waitForPulls(t, q, 1)
	cancel()
	<-parked
	q.publish(t, task(1))
	if err := other.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if delivery := q.fetch(t); delivery.Task != task(1) {
		t.Errorf("delivered is %+v", delivery.Task)
	}
}

func TestDrainDoesNotOutwaitALongFetch(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	parked := make(chan struct{})
	go func() {
		defer close(parked)
		_, _ = q.Fetch(ctx, time.Hour)
	}()
	waitForPulls(t, q, 1)
	cancel()
	<-parked
	ctx, cancel = withTimeout(t, time.Minute)
	defer cancel()
	if err := q.Drain(ctx); err != nil {
		t.Error(err)
	}
}

// waitForPulls waits until the server knows of so many parked fetches.
func waitForPulls(t *testing.T, q *queue, count int) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() error {
		consumer, err := q.js.Consumer(t.Context(), messages.StreamWork, messages.ConsumerWorkers)
		if err != nil {
			return err
		}
		if waiting := consumer.CachedInfo().NumWaiting; waiting != count {
			return fmt.Errorf("%d fetches are parked", waiting)
		}
		return nil
	})
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	t.Parallel()
	for attempts, most := range map[int]time.Duration{-1: 2 * time.Second, 0: 2 * time.Second, 1: 2 * time.Second, 3: 8 * time.Second, 6: time.Minute, 1000: time.Minute} {
		for range 200 {
			if delay := bus.Backoff(attempts); delay < most/4 || delay > most {
				t.Fatalf("after %d attempts the delay is %s", attempts, delay)
			}
		}
	}
}
