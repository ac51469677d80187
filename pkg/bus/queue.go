package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cipherfleet/cipherfleet/messages"
)

// Settings are what may differ between fleets. The zero value is a good one for a single server.
type Settings struct {
	Installation  string        // the registry's UUID; a queue marked with another one is foreign. Empty: not compared
	AckWait       time.Duration // how long a task may go without a sign of life; 0 means 15 s
	Replicas      int           // copies in a cluster; 0 means one, or whatever the stream has
	MaxAckPending int           // tasks in all workers' hands at once; 0 means 4096
	MaxTasks      int64         // tasks in the queue at once; 0 means 100000
}

// Identity tells one queue from another that took its place. LastSeq is the number of the last task it accepted: if
// that goes back, the queue has lost something.
type Identity struct {
	Created time.Time
	LastSeq uint64
}

// metadata's key under which a queue carries the installation it belongs to.
const metaInstallation = "cipherfleet.installation"

const (
	mebibyte = 1 << 20
	day      = 24 * time.Hour
)

// Ensure makes the streams and the consumer, or brings them to these settings, and leaves what is in them alone.
// A stream by our name that we could not have made is ErrForeignQueue. Only the leading coordinator calls it.
func (b *Bus) Ensure(ctx context.Context, settings Settings) (Identity, error) {
	settings = settings.withDefaults()
	for _, wanted := range []jetstream.StreamConfig{workStream(settings), eventStream(settings), deadStream(settings)} {
		if err := b.ensureStream(ctx, wanted); err != nil {
			return Identity{}, err
		}
	}
	start := time.Now()
	if _, err := b.js.CreateOrUpdateConsumer(ctx, messages.StreamWork, workers(settings)); err != nil {
		return Identity{}, b.manage(start, "set up the workers' consumer", err)
	}
	return b.Identity(ctx)
}

func (s Settings) withDefaults() Settings {
	if s.AckWait == 0 {
		s.AckWait = 15 * time.Second
	}
	if s.MaxAckPending == 0 {
		s.MaxAckPending = 4096
	}
	if s.MaxTasks == 0 {
		s.MaxTasks = 100_000
	}
	return s
}

func workStream(s Settings) jetstream.StreamConfig {
	config := jetstream.StreamConfig{
		Name:               messages.StreamWork,
		Description:        "Cipherfleet: ranges offered to workers. Postgres knows what is done; this may be lost.",
		Subjects:           []string{messages.SubjectsWork},
		Retention:          jetstream.WorkQueuePolicy,
		Storage:            jetstream.FileStorage,
		Replicas:           s.Replicas,
		Discard:            jetstream.DiscardNew, // the other policy would silently drop ranges
		MaxMsgs:            s.MaxTasks,
		MaxBytes:           256 * mebibyte,
		MaxMsgSize:         messages.MaxBody,
		Duplicates:         2 * time.Minute,
		AllowAtomicPublish: true,
		AllowDirect:        true,
	}
	if s.Installation != "" {
		config.Metadata = map[string]string{metaInstallation: s.Installation}
	}
	return config
}

func eventStream(s Settings) jetstream.StreamConfig {
	return logStream(s, messages.StreamEvents, messages.SubjectsEvents, "progress, for displays", 7*day)
}

func deadStream(s Settings) jetstream.StreamConfig {
	return logStream(s, messages.StreamDLQ, messages.SubjectsDLQ, "ranges that no worker will try again", 30*day)
}

func logStream(s Settings, name, subjects, about string, age time.Duration) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        name,
		Description: "Cipherfleet: " + about + ".",
		Subjects:    []string{subjects},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    s.Replicas,
		Discard:     jetstream.DiscardOld,
		MaxAge:      age,
		MaxBytes:    64 * mebibyte,
		MaxMsgSize:  messages.MaxBody,
		Duplicates:  2 * time.Minute,
		AllowDirect: true,
	}
}

// workers is the one consumer: durable, so that it outlives a fleet scaled to nothing; without a limit of deliveries,
// since a message beyond it would lie in the stream unseen; without back-off, since that would distort our own delays.
func workers(s Settings) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:         messages.ConsumerWorkers,
		Description:     "all workers, each taking one task at a time",
		FilterSubject:   messages.SubjectsWork,
		DeliverPolicy:   jetstream.DeliverAllPolicy,
		AckPolicy:       jetstream.AckExplicitPolicy,
		AckWait:         s.AckWait,
		MaxDeliver:      -1,
		MaxAckPending:   s.MaxAckPending,
		MaxWaiting:      4096,
		MaxRequestBatch: 16,
	}
}

func (b *Bus) ensureStream(ctx context.Context, wanted jetstream.StreamConfig) error {
	start := time.Now()
	stream, err := b.js.Stream(ctx, wanted.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if wanted.Replicas == 0 {
			wanted.Replicas = 1
		}
		_, err = b.js.CreateStream(ctx, wanted)
		return b.manage(start, "create stream "+wanted.Name, err)
	}
	if err != nil {
		return b.manage(start, "look at stream "+wanted.Name, err)
	}
	present := stream.CachedInfo().Config
	if err := compare(present, wanted); err != nil {
		return err
	}
	merged := merge(present, wanted)
	if reflect.DeepEqual(present, merged) {
		return nil
	}
	_, err = b.js.UpdateStream(ctx, merged)
	return b.manage(start, "update stream "+wanted.Name, err)
}

// compare refuses a stream that we could not have made, in words that say what is different.
func compare(present, wanted jetstream.StreamConfig) error {
	differs := func(what string) error {
		return fmt.Errorf("use stream %s: %w: its %s", wanted.Name, ErrForeignQueue, what)
	}
	owner, ours := present.Metadata[metaInstallation], wanted.Metadata[metaInstallation]
	switch {
	case present.Retention != wanted.Retention:
		return differs("retention is " + present.Retention.String())
	case present.Storage != wanted.Storage:
		return differs("storage is " + present.Storage.String())
	case !slices.Equal(present.Subjects, wanted.Subjects):
		return differs("subjects are others")
	case present.Mirror != nil || len(present.Sources) > 0:
		return differs("messages come from another stream")
	case owner != "" && ours != "" && owner != ours:
		return differs("tasks are of another installation")
	}
	return nil
}

// merge keeps what an operator may have chosen: replicas, placement, and further metadata.
func merge(present, wanted jetstream.StreamConfig) jetstream.StreamConfig {
	merged := present
	if wanted.Replicas != 0 {
		merged.Replicas = wanted.Replicas
	}
	merged.Description = wanted.Description
	merged.Discard = wanted.Discard
	merged.MaxMsgs, merged.MaxBytes = unlimited(wanted.MaxMsgs), wanted.MaxBytes
	merged.MaxAge = wanted.MaxAge
	merged.MaxMsgSize = wanted.MaxMsgSize
	merged.Duplicates = wanted.Duplicates
	merged.AllowAtomicPublish = wanted.AllowAtomicPublish
	merged.AllowDirect = wanted.AllowDirect
	merged.Metadata = maps.Clone(present.Metadata)
	for key, value := range wanted.Metadata {
		merged.Metadata[key] = value
	}
	return merged
}

// unlimited is how the server reports a limit that was not set.
func unlimited(limit int64) int64 {
	if limit == 0 {
		return -1
	}
	return limit
}

// Identity returns the identity of the queue, or ErrNoQueue.
func (b *Bus) Identity(ctx context.Context) (Identity, error) {
	start := time.Now()
	stream, err := b.js.Stream(ctx, messages.StreamWork)
	if err != nil {
		return Identity{}, b.manage(start, "look at the work queue", err)
	}
	info := stream.CachedInfo()
	return Identity{Created: info.Created, LastSeq: info.State.LastSeq}, nil
}

// Pending returns how many tasks wait in the queue and how many are in workers' hands. Both being 0 does not mean
// that a job is finished.
func (b *Bus) Pending(ctx context.Context) (waiting, held int, err error) {
	start := time.Now()
	consumer, err := b.js.Consumer(ctx, messages.StreamWork, messages.ConsumerWorkers)
	if err != nil {
		return 0, 0, b.manage(start, "look at the workers' consumer", err)
	}
	info := consumer.CachedInfo()
	return int(info.NumPending), info.NumAckPending, nil
}
