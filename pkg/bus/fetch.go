package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cipherfleet/cipherfleet/messages"
)

// unknownDelay is how long a task of an unknown version is left for a worker that knows it.
const unknownDelay = 30 * time.Second

// Delivery is a task in this worker's hands, until it is settled by Ack, Nak or Bury, or until neither that nor
// InProgress is called for as long as the consumer waits.
type Delivery struct {
	Task      messages.Task
	Attempt   int           // which delivery of the message this is; forgetful, so only a hint
	Heartbeat time.Duration // how often to call InProgress: a third of what the consumer waits
	bus       *Bus
	message   jetstream.Msg
}

// Fetch waits up to wait for one task, and returns nil and no error when none came. Every error but the context's
// and ErrClosed passes: pause and call again. A task that arrives after ctx has ended goes back to the queue.
//
// Tasks of an unknown version are left for others and what is no task becomes a dead letter, both with a warning in
// the log, while Fetch goes on waiting.
func (b *Bus) Fetch(ctx context.Context, wait time.Duration) (*Delivery, error) {
	deadline := time.Now().Add(wait)
	for ctx.Err() == nil {
		left := time.Until(deadline)
		if left < time.Millisecond {
			return nil, nil
		}
		if err := b.connected(ctx, left); err != nil {
			return nil, err
		}
		consumer, message, err := b.pull(ctx, min(left, pullTime))
		if err != nil {
			return nil, err
		}
		if message == nil {
			continue
		}
		if delivery := b.open(ctx, message); delivery != nil {
			delivery.Heartbeat = consumer.CachedInfo().Config.AckWait / 3
			return delivery, nil
		}
	}
	return nil, ctx.Err()
}

// pullTime is how long one pull may stand at the server. Drain waits no longer for those that were given up.
const pullTime = 2 * time.Second

// pull asks for one message. Nothing is taken in advance: what lies in one worker's memory no other can take.
func (b *Bus) pull(ctx context.Context, wait time.Duration) (jetstream.Consumer, jetstream.Msg, error) {
	start := time.Now()
	lost := b.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer b.nc.RemoveStatusListener(lost)
	if !b.nc.IsConnected() {
		return nil, nil, fmt.Errorf("fetch a task: %w", ErrUnreachable)
	}
	consumer, err := b.workers(ctx, min(wait, lookupTime))
	if err != nil {
		return nil, nil, b.manage(start, "fetch a task", err)
	}
	batch, err := consumer.Fetch(1, jetstream.FetchMaxWait(wait))
	if err != nil {
		return nil, nil, b.classify(start, "fetch a task", err)
	}
	select {
	case message := <-batch.Messages():
		return consumer, message, b.outcome(start, message, batch.Error())
	case <-ctx.Done():
		err = ctx.Err()
	case <-lost:
		err = fmt.Errorf("fetch a task: %w", ErrUnreachable)
	}
	b.lingering.Go(func() { handBack(batch) })
	return nil, nil, err
}

// outcome tells the end of a fetch without a message from its failure.
func (b *Bus) outcome(start time.Time, message jetstream.Msg, err error) error {
	if message != nil || err == nil {
		return nil
	}
	b.forget()
	return b.classify(start, "fetch a task", err)
}

// handBack waits for the rest of a fetch that was given up. Were it cancelled instead, a task on its way would be
// nobody's until its acknowledgement is overdue.
func handBack(batch jetstream.MessageBatch) {
	for message := range batch.Messages() {
		_ = message.Nak() // if it is lost, the task comes back all the same, later
	}
}

// connected waits for the connection to be up, since a pull sent into a broken one would only wait for nothing.
func (b *Bus) connected(ctx context.Context, wait time.Duration) error {
	if b.nc.IsConnected() {
		return nil
	}
	back := b.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer b.nc.RemoveStatusListener(back)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	if !b.nc.IsConnected() && !b.nc.IsClosed() {
		select {
		case <-back:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch {
	case b.nc.IsClosed():
		return fmt.Errorf("fetch a task: %w", ErrClosed)
	case !b.nc.IsConnected():
		return fmt.Errorf("fetch a task: %w", ErrUnreachable)
	}
	return nil
}

// consumerAge is how long a consumer is remembered: the coordinator may change how long it waits.
const consumerAge = time.Minute

// lookupTime is how long to wait for the answer about the consumer: it never comes if the server goes meanwhile.
const lookupTime = 2 * time.Second

// workers finds the consumer and remembers it for a while, or until a fetch fails.
func (b *Bus) workers(ctx context.Context, wait time.Duration) (jetstream.Consumer, error) {
	b.mu.Lock()
	known, since := b.consumer, b.since
	b.mu.Unlock()
	if known != nil && time.Since(since) < consumerAge {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	found, err := b.js.Consumer(ctx, messages.StreamWork, messages.ConsumerWorkers)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.consumer, b.since = found, time.Now()
	return found, nil
}

func (b *Bus) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.consumer = nil
}

// open reads the message, or puts it where it belongs and returns nil.
func (b *Bus) open(ctx context.Context, message jetstream.Msg) *Delivery {
	task, err := messages.ParseTask(message.Data())
	attempt := 0
	if metadata, err := message.Metadata(); err == nil {
		attempt = int(metadata.NumDelivered)
	}
	switch {
	case err == nil:
		return &Delivery{Task: task, Attempt: attempt, bus: b, message: message}
	case errors.Is(err, messages.ErrVersion):
		b.logger.WarnContext(ctx, "a task has a version that this worker does not know; left for another", "subject", message.Subject())
		err = message.NakWithDelay(jitter(unknownDelay))
	default:
		b.logger.WarnContext(ctx, "a message in the queue is no task; made a dead letter", "subject", message.Subject())
		err = b.discard(ctx, message, attempt)
	}
	if err != nil {
		b.logger.WarnContext(ctx, "the message will come back", "subject", message.Subject(), "error", err)
	}
	return nil
}

// discard buries what cannot be read, under the job and table of its subject.
func (b *Bus) discard(ctx context.Context, message jetstream.Msg, attempt int) error {
	letter := messages.DeadLetter{Job: "unknown", Table: "unknown", Attempts: attempt, Class: messages.ClassMalformed, At: time.Now()}
	if tokens := strings.Split(message.Subject(), "."); len(tokens) == 5 {
		letter.Job, letter.Table = tokens[3], tokens[4]
	}
	if err := b.DeadLetter(ctx, letter); err != nil {
		return err
	}
	return message.TermWithReason(letter.Class)
}

// InProgress says that the task is still being worked on, which gives it its full time again.
func (d *Delivery) InProgress() error {
	return d.bus.classify(time.Now(), "keep task "+d.Task.ID(), d.message.InProgress())
}

// Ack removes the task from the queue, and returns when the server has done so. Call it after the commit, never
// before: if it fails the task comes back and is found done.
func (d *Delivery) Ack(ctx context.Context) (err error) {
	start := time.Now()
	ctx, span := d.settling(ctx, "ack")
	defer func() { finish(span, err) }()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return d.bus.classify(start, "acknowledge task "+d.Task.ID(), d.message.DoubleAck(ctx))
}

// Nak hands the task back, to be delivered again after delay and up to a quarter more, so that tasks handed back
// together do not return together.
func (d *Delivery) Nak(delay time.Duration) error {
	return d.bus.classify(time.Now(), "hand back task "+d.Task.ID(), d.message.NakWithDelay(jitter(delay)))
}

// Bury writes a dead letter and then removes the task, in this order: the other way round a crash would lose both.
// Class is the class of the error, never its text.
func (d *Delivery) Bury(ctx context.Context, class string, attempts int) error {
	start := time.Now()
	letter := messages.DeadLetter{
		Job: d.Task.Job, Range: d.Task.Range, Table: d.Task.Table, Epoch: d.Task.Epoch,
		Attempts: attempts, Class: class, At: time.Now(),
	}
	if err := d.bus.DeadLetter(ctx, letter); err != nil {
		return err
	}
	return d.bus.classify(start, "remove task "+d.Task.ID(), d.message.TermWithReason(class))
}

// Backoff is how long to leave a range alone after so many failed attempts: random, and at most doubling from two
// seconds to a minute.
func Backoff(attempts int) time.Duration {
	most := time.Minute
	if attempts < 6 {
		most = time.Second << max(attempts, 1)
	}
	return most/4 + rand.N(3*most/4)
}

func jitter(delay time.Duration) time.Duration {
	if delay <= 0 {
		return time.Millisecond // a plain refusal would come back within the same millisecond, again and again
	}
	return delay + rand.N(delay/4+1)
}
