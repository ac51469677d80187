package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/cipherfleet/cipherfleet/messages"
)

// Headers of a batch that the server stores as a whole or not at all.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// maxBatch is how many messages the server takes in one batch.
const maxBatch = 1000

// errNoBatch says that a batch was not taken but its messages may be, one by one.
var errNoBatch = errors.New("batch not taken")

// Publish offers tasks, and returns when the queue holds them on disk. A task that was offered within the last two
// minutes under the same id is not stored again. On an error some may have been stored: offering all of them again
// does no harm. ErrFull and ErrNoQueue say what to do before.
func (b *Bus) Publish(ctx context.Context, tasks []messages.Task) (err error) {
	if len(tasks) == 0 {
		return nil
	}
	ctx, span := b.sending(ctx, tasks)
	defer func() { finish(span, err) }()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ctx, forget := b.untilLost(ctx)
	defer forget()
	ctx, release := b.denials.watch(ctx, tasks[0].Subject())
	defer release()
	composed := make([]*nats.Msg, len(tasks))
	for i, task := range tasks {
		if composed[i], err = compose(ctx, task); err != nil {
			return err
		}
	}
	start := time.Now()
	for batch := range slices.Chunk(composed, maxBatch) {
		if err := b.publish(ctx, batch); err != nil {
			return b.classify(start, "publish tasks", whyEnded(ctx, err))
		}
	}
	return nil
}

func (b *Bus) publish(ctx context.Context, batch []*nats.Msg) error {
	if len(batch) == 1 {
		return b.publishSingly(ctx, batch)
	}
	err := b.publishTogether(ctx, batch)
	if errors.Is(err, errNoBatch) {
		return b.publishSingly(ctx, batch)
	}
	return err
}

func compose(ctx context.Context, task messages.Task) (*nats.Msg, error) {
	body, err := task.Marshal()
	if err != nil {
		return nil, err
	}
	message := nats.NewMsg(task.Subject())
	message.Data = body
	message.Header[jetstream.MsgIDHeader] = []string{task.ID()}
	message.Header[messages.HeaderType] = []string{messages.TypeTask}
	inject(ctx, message.Header)
	return message, nil
}

// publishTogether sends one atomic batch, which costs one write to disk. The server rejects it as a whole, with
// errNoBatch here, when it knows no batches, has too many open, or remembers one of the ids.
func (b *Bus) publishTogether(ctx context.Context, batch []*nats.Msg) error {
	id := nuid.Next()
	for i, message := range batch {
		message = withBatch(message, id, i+1, i == len(batch)-1)
		switch i {
		case 0, len(batch) - 1:
			reply, err := b.nc.RequestMsgWithContext(ctx, message)
			if err != nil {
				return err
			}
			if err := checkBatchReply(reply.Data, i > 0); err != nil {
				return err
			}
		default:
			if err := b.nc.PublishMsg(message); err != nil {
				return err
			}
		}
	}
	return nil
}

// withBatch returns a copy, so that the message can still be sent on its own.
func withBatch(message *nats.Msg, id string, sequence int, last bool) *nats.Msg {
	batched := nats.NewMsg(message.Subject)
	batched.Data = message.Data
	for key, values := range message.Header {
		batched.Header[key] = values
	}
	batched.Header[headerBatchID] = []string{id}
	batched.Header[headerBatchSequence] = []string{strconv.Itoa(sequence)}
	if last {
		batched.Header[headerBatchCommit] = []string{"1"}
	}
	return batched
}

// checkBatchReply reads the server's answer: nothing to the first message, an acknowledgement to the last. A server
// that knows no batches acknowledges the first as well.
func checkBatchReply(body []byte, last bool) error {
	if len(body) == 0 && !last {
		return nil
	}
	var reply struct {
		Error *jetstream.APIError `json:"error"`
		Batch string              `json:"batch"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return errNoBatch
	}
	if reply.Error != nil && isFull(reply.Error) {
		return reply.Error
	}
	if reply.Error != nil || reply.Batch == "" {
		return errNoBatch
	}
	return nil
}

// publishSingly sends each message on its own and waits for all of them.
func (b *Bus) publishSingly(ctx context.Context, batch []*nats.Msg) error {
	futures := make([]jetstream.PubAckFuture, len(batch))
	for i, message := range batch {
		future, err := b.js.PublishMsgAsync(message, jetstream.WithStallWait(10*time.Second))
		if err != nil {
			return err
		}
		futures[i] = future
	}
	for _, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Emit tells whoever listens what has been done. It returns before anybody has heard it and may be lost.
func (b *Bus) Emit(ctx context.Context, progress messages.Progress) error {
	body, err := progress.Marshal()
	if err != nil {
		return err
	}
	message := nats.NewMsg(progress.Subject())
	message.Data = body
	message.Header[messages.HeaderType] = []string{messages.TypeProgress}
	inject(ctx, message.Header)
	return b.classify(time.Now(), "emit progress", b.nc.PublishMsg(message))
}

// DeadLetter stores the letter, and returns when it is on disk.
func (b *Bus) DeadLetter(ctx context.Context, letter messages.DeadLetter) error {
	start := time.Now()
	body, err := letter.Marshal()
	if err != nil {
		return err
	}
	message := nats.NewMsg(letter.Subject())
	message.Data = body
	message.Header[messages.HeaderType] = []string{messages.TypeDeadLetter}
	if letter.Range > 0 {
		id := fmt.Sprintf("%s/%d/%d/dead", letter.Job, letter.Range, letter.Epoch)
		message.Header[jetstream.MsgIDHeader] = []string{id}
	}
	inject(ctx, message.Header)
	_, err = b.js.PublishMsg(ctx, message)
	return b.classify(start, "write dead letter", err)
}
