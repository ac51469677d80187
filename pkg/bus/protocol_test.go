package bus_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// document is docs/protocol.md, whose examples must work.
func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheDocumentNamesEverything(t *testing.T) {
	t.Parallel()
	text := document(t)
	for _, name := range []string{
		messages.StreamWork, messages.StreamEvents, messages.StreamDLQ, messages.ConsumerWorkers,
		messages.WorkSubject("<job>", "<table>"), messages.EventSubject("<job>", "<kind>"), messages.DeadSubject("<job>", "<table>"),
		messages.HeaderType, messages.TypeTask, messages.TypeProgress, messages.TypeDeadLetter, messages.TypeStart,
		messages.KindCheckpoint, messages.KindRange, messages.KindJob, messages.ClassMalformed, "send " + template, "process " + template, "ack " + template,
		messages.CodeInvalid, messages.CodeDenied, messages.CodeNotFound, messages.CodeConflict, messages.CodeRefused,
		messages.CodeWaiting, messages.CodeBusy, messages.CodeInternal, messages.CodeUnavailable,
	} {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/protocol.md does not mention %s", name)
		}
	}
}

func TestTheDocumentNamesEveryField(t *testing.T) {
	t.Parallel()
	text := document(t)
	for _, of := range []any{messages.StartRequest{}, messages.ColumnRequest{}, messages.Done{}, messages.Encrypter{}, messages.Scheme{}, messages.Job{}, messages.Ranges{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(of)) {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); !strings.Contains(text, "`"+name+"`") {
				t.Errorf("docs/protocol.md does not mention %s of %T", name, of)
			}
		}
	}
}

func TestTheDocumentedRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	serve(t, q, answering())
	requests := regexp.MustCompile(`(?m)^nats req '?([^ ']+)'? +'(.*)'$`).FindAllStringSubmatch(document(t), -1)
	asked := map[string]bool{}
	for _, request := range requests {
		subject, body := request[1], request[2]
		reply, err := q.js.Conn().RequestWithContext(t.Context(), subject, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if code := reply.Header.Get("Nats-Service-Error-Code"); code != "" {
			t.Errorf("%s %s is refused: %s", subject, body, reply.Data)
		}
		asked[subject] = true
	}
	for _, subject := range []string{
		messages.SubjectStart, messages.SubjectGet, messages.SubjectList, messages.SubjectPause, messages.SubjectResume, messages.SubjectCancel,
	} {
		if !asked[subject] {
			t.Errorf("there is no example for %s", subject)
		}
	}
}

// documentedServer runs with the configuration that the document gives.
func documentedServer(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(document(t), "# nats-server.conf\n")
	config, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/protocol.md has no configuration")
	}
	config = regexp.MustCompile(`\$[A-Z]+_PASSWORD`).ReplaceAllString(config, "p")
	options, err := server.ProcessConfigFile(write(t, config))
	if err != nil {
		t.Fatal(err)
	}
	options.StoreDir = t.TempDir()
	return plainServer(t, *options)
}

func as(t *testing.T, url, user string) *bus.Bus {
	t.Helper()
	b, err := bus.Connect(t.Context(), bus.Config{URL: strings.Replace(url, "nats://", "nats://"+user+":p@", 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestTheDocumentedPermissionsAreEnough(t *testing.T) {
	t.Parallel()
	url := documentedServer(t)
	coordinator, worker, operator := as(t, url, "coordinator"), as(t, url, "worker"), as(t, url, "operator")
	if _, err := coordinator.Ensure(t.Context(), bus.Settings{}); err != nil {
		t.Fatal(err)
	}
	service, err := coordinator.Serve(t.Context(), answering())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := service.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, do := range []func() error{
		func() error { return coordinator.Publish(t.Context(), tasks(3)) },
		func() error { return coordinator.Publish(t.Context(), tasks(4)) }, // falls back to single ones
		func() error { _, _, err := coordinator.Pending(t.Context()); return err },
		func() error { _, err := coordinator.Identity(t.Context()); return err },
		func() error { _, err := operator.Start(t.Context(), startRequest()); return err },
		func() error { _, err := operator.Pause(t.Context(), messages.JobRequest{Job: job}); return err },
		func() error { return worker.Emit(t.Context(), messages.Progress{Job: job, Kind: messages.KindRange}) },
	} {
		if err := do(); err != nil {
			t.Error(err)
		}
	}
	for _, settle := range []func(*bus.Delivery) error{
		func(d *bus.Delivery) error { return d.Ack(t.Context()) },
		func(d *bus.Delivery) error { return d.Nak(time.Hour) },
		func(d *bus.Delivery) error { return d.Bury(t.Context(), "data", 5) },
		func(d *bus.Delivery) error { return d.InProgress() },
	} {
		delivery, err := worker.Fetch(t.Context(), time.Minute)
		if err != nil || delivery == nil {
			t.Fatalf("fetched %v, %v", delivery, err)
		}
		if err := settle(delivery); err != nil {
			t.Error(err)
		}
	}
	if err := worker.Ready(t.Context()); err != nil { // the server would have complained by now
		t.Error(err)
	}
	testenv.Eventually(t, time.Minute, func() error { // the server takes a burial in its own time
		waiting, held, err := coordinator.Pending(t.Context())
		if err == nil && (waiting != 0 || held != 2) {
			err = fmt.Errorf("%d wait and %d are held", waiting, held)
		}
		return err
	})
}

func TestTheDocumentedPermissionsAreNoMore(t *testing.T) {
	t.Parallel()
	url := documentedServer(t)
	coordinator, worker, operator := as(t, url, "coordinator"), as(t, url, "worker"), as(t, url, "operator")
	if _, err := coordinator.Ensure(t.Context(), bus.Settings{}); err != nil {
		t.Fatal(err)
	}
	isError(t, worker.Publish(t.Context(), tasks(1)), bus.ErrDenied)
	isError(t, worker.Publish(t.Context(), tasks(2)), bus.ErrDenied)
	for _, denied := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := worker.Ensure(ctx, bus.Settings{}); return err },
		func(ctx context.Context) error { _, err := worker.Jobs(ctx); return err },
		func(ctx context.Context) error { _, err := operator.Identity(ctx); return err },
		func(ctx context.Context) error { _, err := operator.Fetch(ctx, time.Second); return err },
	} {
		ctx, cancel := withTimeout(t, 5*time.Second)
		isError(t, denied(ctx), bus.ErrDenied)
		cancel()
	}
}
