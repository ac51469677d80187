package bus_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestTheQueueIsMadeAsItMustBe(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{Installation: "i1", AckWait: 9 * time.Second, MaxAckPending: 77, MaxTasks: 500})
	work, err := q.js.Stream(t.Context(), messages.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	stream := work.CachedInfo().Config
	if stream.Retention != jetstream.WorkQueuePolicy || stream.Storage != jetstream.FileStorage || stream.Discard != jetstream.DiscardNew ||
		stream.MaxMsgs != 500 || stream.MaxAge != 0 || !stream.AllowAtomicPublish || stream.Replicas != 1 || stream.Metadata["cipherfleet.installation"] != "i1" {
		t.Errorf("the work queue is %+v", stream)
	}
	consumer, err := work.Consumer(t.Context(), messages.ConsumerWorkers)
	if err != nil {
		t.Fatal(err)
	}
	workers := consumer.CachedInfo().Config
	if workers.AckPolicy != jetstream.AckExplicitPolicy || workers.AckWait != 9*time.Second || workers.MaxDeliver != -1 || len(workers.BackOff) != 0 ||
		workers.MaxAckPending != 77 || workers.MaxWaiting != 4096 || workers.InactiveThreshold != 0 || workers.Durable != messages.ConsumerWorkers {
		t.Errorf("the workers' consumer is %+v", workers)
	}
	for _, name := range []string{messages.StreamEvents, messages.StreamDLQ} {
		found, err := q.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if config := found.CachedInfo().Config; config.Retention != jetstream.LimitsPolicy || config.MaxAge == 0 || config.Storage != jetstream.FileStorage {
			t.Errorf("%s is %+v", name, config)
		}
	}
}

func TestEnsureChangesSettingsAndKeepsTasks(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{Installation: "i1"})
	q.publish(t, tasks(3)...)
	before, err := q.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		after, err := q.Ensure(t.Context(), bus.Settings{Installation: "i1", AckWait: 20 * time.Second, MaxTasks: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if after != before {
			t.Errorf("identity was %v and is %v", before, after)
		}
	}
	consumer, err := q.js.Consumer(t.Context(), messages.StreamWork, messages.ConsumerWorkers)
	if err != nil {
		t.Fatal(err)
	}
	if wait := consumer.CachedInfo().Config.AckWait; wait != 20*time.Second {
		t.Errorf("acknowledgement may take %s", wait)
	}
	if waiting, held := q.held(t); waiting != 3 || held != 0 {
		t.Errorf("%d wait and %d are held", waiting, held)
	}
}

func TestEnsureKeepsWhatAnOperatorAdded(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{Installation: "i1"})
	work, err := q.js.Stream(t.Context(), messages.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	config := work.CachedInfo().Config
	config.Metadata["team"] = "storage"
	config.MaxMsgs, config.Discard, config.Duplicates, config.AllowAtomicPublish = 7, jetstream.DiscardOld, time.Second, false
	if _, err := q.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Ensure(t.Context(), bus.Settings{Installation: "i1"}); err != nil {
		t.Fatal(err)
	}
	work, err = q.js.Stream(t.Context(), messages.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	config = work.CachedInfo().Config
	if config.Metadata["team"] != "storage" || config.Metadata["cipherfleet.installation"] != "i1" || config.MaxMsgs != 100_000 ||
		config.Discard != jetstream.DiscardNew || config.Duplicates != 2*time.Minute || !config.AllowAtomicPublish {
		t.Errorf("the stream is %+v", config)
	}
}

func TestAForeignQueueIsRefused(t *testing.T) {
	t.Parallel()
	ours := bus.Settings{Installation: "i1"}
	for name, config := range map[string]jetstream.StreamConfig{
		"another retention":    {Name: messages.StreamWork, Subjects: []string{messages.SubjectsWork}, Retention: jetstream.LimitsPolicy},
		"another storage":      {Name: messages.StreamWork, Subjects: []string{messages.SubjectsWork}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage},
		"other subjects":       {Name: messages.StreamWork, Subjects: []string{"orders.>"}, Retention: jetstream.WorkQueuePolicy},
		"another installation": {Name: messages.StreamWork, Subjects: []string{messages.SubjectsWork}, Retention: jetstream.WorkQueuePolicy, Metadata: map[string]string{"cipherfleet.installation": "i2"}},
		"another dead letter":  {Name: messages.StreamDLQ, Subjects: []string{messages.SubjectsDLQ}, Retention: jetstream.InterestPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.OwnNATS(t)
			b := connect(t, server, bus.Config{})
			q := &queue{Bus: b, server: server, js: plainJetStream(t, server)}
			if _, err := q.js.CreateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			_, err := q.Ensure(t.Context(), ours)
			isError(t, err, bus.ErrForeignQueue)
		})
	}
}

func TestWhatIsLostIsMadeAgainWithAnotherIdentity(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	q.publish(t, tasks(5)...)
	before, err := q.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.LastSeq != 5 || before.Created.IsZero() {
		t.Errorf("identity is %+v", before)
	}
	lose := map[string]func() error{
		"consumer": func() error { return q.js.DeleteConsumer(t.Context(), messages.StreamWork, messages.ConsumerWorkers) },
		"stream":   func() error { return q.js.DeleteStream(t.Context(), messages.StreamWork) },
		"store":    q.server.WipeStore,
	}
	for _, what := range []string{"consumer", "stream", "store"} {
		if err := lose[what](); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, time.Minute, func() error { return q.Ready(t.Context()) })
		if what != "consumer" {
			_, err = q.Identity(t.Context())
			isError(t, err, bus.ErrNoQueue)
			isError(t, q.Publish(t.Context(), tasks(2)), bus.ErrNoQueue)
			isError(t, q.Publish(t.Context(), tasks(1)), bus.ErrNoQueue)
		}
		_, _, err = q.Pending(t.Context())
		isError(t, err, bus.ErrNoQueue)
		after, err := q.Ensure(t.Context(), bus.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		if same := after == before; same != (what == "consumer") {
			t.Errorf("%s lost: identity was %v and is %v", what, before, after)
		}
		before = after
		q.publish(t, task(100))
		q.fetch(t)
		if err := q.js.DeleteConsumer(t.Context(), messages.StreamWork, messages.ConsumerWorkers); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Ensure(t.Context(), bus.Settings{}); err != nil {
			t.Fatal(err)
		}
		before.LastSeq++
	}
}
