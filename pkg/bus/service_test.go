package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// answering returns handlers that answer with the verb in the job's state.
func answering() bus.Handlers {
	verb := func(state string) func(context.Context, messages.JobRequest) (messages.Job, error) {
		return func(_ context.Context, r messages.JobRequest) (messages.Job, error) {
			return messages.Job{ID: r.Job, State: state}, nil
		}
	}
	return bus.Handlers{
		Start: func(_ context.Context, r messages.StartRequest) (messages.Job, error) {
			return messages.Job{ID: job, RequestID: r.RequestID, Table: r.Schema + "." + r.Table, Columns: []string{r.Columns[0].Target}}, nil
		},
		Get: verb("got"), Pause: verb("paused"), Resume: verb("resumed"), Cancel: verb("cancelled"),
		Retry: func(_ context.Context, r messages.RetryRequest) (messages.Job, error) {
			return messages.Job{ID: r.Job, State: fmt.Sprintf("retried %t for %s", r.Quarantined, r.Actor)}, nil
		},
		List: func(context.Context) ([]messages.Job, error) { return []messages.Job{{ID: "2"}, {ID: "1"}}, nil },
	}
}

func serve(t *testing.T, q *queue, handlers bus.Handlers) *bus.Service {
	t.Helper()
	service, err := q.Serve(t.Context(), handlers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Stop(); err != nil {
			t.Error(err)
		}
	})
	return service
}

func startRequest() messages.StartRequest {
	return messages.StartRequest{RequestID: "r1", Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}}}
}

func problemOf(t *testing.T, err error) messages.Problem {
	t.Helper()
	var problem *messages.Problem
	if !errors.As(err, &problem) {
		t.Fatalf("error is no problem: %v", err)
	}
	return *problem
}

func TestEachRequestReachesItsHandler(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	serve(t, q, answering())
	client := connect(t, q.server, bus.Config{})
	started, err := client.Start(t.Context(), startRequest())
	if err != nil || started.Table != "public.users" || started.Columns[0] != "email_encrypted" || started.RequestID != "r1" {
		t.Errorf("started is %+v, %v", started, err)
	}
	request := messages.JobRequest{Job: job}
	for state, ask := range map[string]func(context.Context, messages.JobRequest) (messages.Job, error){
		"got": client.Job, "paused": client.Pause, "resumed": client.Resume, "cancelled": client.Cancel,
	} {
		if got, err := ask(t.Context(), request); err != nil || got.State != state || got.ID != job {
			t.Errorf("%s: answer is %+v, %v", state, got, err)
		}
	}
	retried, err := client.Retry(t.Context(), messages.RetryRequest{Job: job, Quarantined: true, Actor: "ada"})
	if err != nil || retried.ID != job || retried.State != "retried true for ada" {
		t.Errorf("retried is %+v, %v", retried, err)
	}
	if jobs, err := client.Jobs(t.Context()); err != nil || len(jobs) != 2 || jobs[0].ID != "2" {
		t.Errorf("jobs are %+v, %v", jobs, err)
	}
}

func TestAPlainRequestIsAnswered(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	serve(t, q, answering())
	nc := q.js.Conn()
	reply, err := nc.RequestWithContext(t.Context(), messages.SubjectStart,
		[]byte(`{"v":1,"request_id":"r1","table":"users","columns":[{"source":"email"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(reply.Data, &body); err != nil || body["table"] != "public.users" || body["v"] != 1.0 {
		t.Errorf("answer is %s, %v", reply.Data, err)
	}
	reply, err = nc.RequestWithContext(t.Context(), messages.SubjectStart, []byte(`{"v":1,"request_id":"r1","tabel":"users"}`))
	if err != nil {
		t.Fatal(err)
	}
	if code := reply.Header.Get("Nats-Service-Error-Code"); code != "400" {
		t.Errorf("error code is %q", code)
	}
	if problem, err := messages.ParseProblem(reply.Data); err != nil || problem.Field != "tabel" {
		t.Errorf("problem is %s, %v", reply.Data, err)
	}
}

func TestAProblemReachesWhoAsked(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	handlers := answering()
	refused := &messages.Problem{Code: messages.CodeRefused, Field: "columns[0].source", Message: "is generated", Hint: "choose another"}
	handlers.Start = func(context.Context, messages.StartRequest) (messages.Job, error) {
		return messages.Job{}, fmt.Errorf("preflight: %w", refused)
	}
	handlers.Get = func(context.Context, messages.JobRequest) (messages.Job, error) {
		return messages.Job{}, errors.New("secret value")
	}
	serve(t, q, handlers)
	_, err := q.Start(t.Context(), startRequest())
	if got := problemOf(t, err); got != *refused {
		t.Errorf("problem is %+v", got)
	}
	_, err = q.Job(t.Context(), messages.JobRequest{Job: job})
	if got := problemOf(t, err); got.Code != messages.CodeInternal || got.Message == "" || got.Message == "secret value" {
		t.Errorf("problem is %+v", got)
	}
	if err := q.log.has("secret value"); err != nil {
		t.Error("the log does not say what failed")
	}
	_, err = q.Pause(t.Context(), messages.JobRequest{Job: "1"})
	if got := problemOf(t, err); got.Code != messages.CodeInvalid || got.Field != "job" {
		t.Errorf("problem is %+v", got)
	}
	_, err = q.Start(t.Context(), messages.StartRequest{RequestID: "r"})
	if got := problemOf(t, err); got.Field != "table" {
		t.Errorf("problem is %+v", got)
	}
}

func TestNoCoordinatorIsToldAtOnce(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	within(t, 25*time.Second, func() {
		_, err := q.Start(t.Context(), startRequest())
		isError(t, err, bus.ErrNoCoordinator)
	})
	service := serve(t, q, answering())
	if _, err := q.Jobs(t.Context()); err != nil {
		t.Error(err)
	}
	if err := service.Stop(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		_, err := q.Jobs(t.Context())
		if !errors.Is(err, bus.ErrNoCoordinator) {
			return fmt.Errorf("after stop: %w", err)
		}
		return nil
	})
}

func TestStopWaitsForTheRequestInHand(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	begun, release := make(chan struct{}), make(chan struct{})
	handlers := answering()
	handlers.Get = func(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
		close(begun)
		select {
		case <-release:
			return messages.Job{ID: r.Job, State: "done"}, nil
		case <-ctx.Done():
			return messages.Job{}, ctx.Err()
		}
	}
	service := serve(t, q, handlers)
	client := connect(t, q.server, bus.Config{})
	var asking sync.WaitGroup
	asking.Go(func() {
		if got, err := client.Job(t.Context(), messages.JobRequest{Job: job}); err != nil || got.State != "done" {
			t.Errorf("answer is %+v, %v", got, err)
		}
	})
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- service.Stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a request in hand: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	asking.Wait()
}

func TestARequestMayOutliveItsServersContext(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	handlers := answering()
	handlers.List = func(ctx context.Context) ([]messages.Job, error) { return nil, ctx.Err() }
	service, err := q.Serve(ctx, handlers)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := q.Jobs(t.Context()); err != nil {
		t.Error(err)
	}
	if err := service.Stop(); err != nil {
		t.Error(err)
	}
}

func TestTheServiceOutlivesARestart(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	serve(t, q, answering())
	client := connect(t, q.server, bus.Config{})
	if err := q.server.Restart(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		ctx, cancel := withTimeout(t, 5*time.Second)
		defer cancel()
		_, err := client.Jobs(ctx)
		return err
	})
}

func TestTheServiceIsDiscovered(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	serve(t, q, answering())
	reply, err := q.js.Conn().RequestWithContext(t.Context(), "$SRV.INFO.cipherfleet", nil)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Endpoints []struct {
			Subject  string            `json:"subject"`
			Metadata map[string]string `json:"metadata"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(reply.Data, &info); err != nil || len(info.Endpoints) != 7 {
		t.Fatalf("info is %s, %v", reply.Data, err)
	}
	for _, endpoint := range info.Endpoints {
		reply, err := q.js.Conn().RequestWithContext(t.Context(), endpoint.Subject, []byte(endpoint.Metadata["example"]))
		if err != nil {
			t.Fatal(err)
		}
		if code := reply.Header.Get("Nats-Service-Error-Code"); endpoint.Subject != messages.SubjectStart && code != "" {
			t.Errorf("the example of %s is refused: %s", endpoint.Subject, reply.Data)
		}
	}
}

func TestAnAnswerOfAnotherServiceIsAProblem(t *testing.T) {
	t.Parallel()
	q := newQueue(t, bus.Settings{})
	sub, err := q.js.Conn().Subscribe(messages.SubjectList, func(m *nats.Msg) {
		reply := nats.NewMsg(m.Reply)
		reply.Header.Set("Nats-Service-Error-Code", "409")
		reply.Header.Set("Nats-Service-Error", "taken")
		_ = m.RespondMsg(reply)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := q.js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	_, err = q.Jobs(t.Context())
	if got := problemOf(t, err); got.Code != messages.CodeConflict || got.Message != "taken" {
		t.Errorf("problem is %+v", got)
	}
}
