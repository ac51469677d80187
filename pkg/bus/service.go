package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/messages"
)

// Handlers carry out requests. A *messages.Problem that they return, or wrap, is the answer; of any other error the
// requester only learns that there was one, and the log has the rest. Requests have been validated before.
type Handlers struct {
	Start                      func(context.Context, messages.StartRequest) (messages.Job, error)
	Get, Pause, Resume, Cancel func(context.Context, messages.JobRequest) (messages.Job, error)
	Retry                      func(context.Context, messages.RetryRequest) (messages.Job, error)
	List                       func(context.Context) ([]messages.Job, error)
}

// Service answers requests until it is stopped.
type Service struct {
	bus   *Bus
	micro micro.Service
	ctx   context.Context

	mu       sync.Mutex
	stopping bool
	running  sync.WaitGroup
}

// serviceVersion is of the protocol, not of the program.
const serviceVersion = "1.0.0"

// requestTime is how long a handler may take.
const requestTime = 30 * time.Second

// Serve answers requests with the handlers until Stop; ctx, without its end, is what they get. Only the leading
// coordinator serves: others would answer from a view that may be old.
func (b *Bus) Serve(ctx context.Context, handlers Handlers) (*Service, error) {
	start := time.Now()
	service, err := micro.AddService(b.nc, micro.Config{
		Name:        messages.Service,
		Version:     serviceVersion,
		Description: "starts, shows and stops jobs",
	})
	if err != nil {
		return nil, b.classify(start, "serve requests", err)
	}
	s := &Service{bus: b, micro: service, ctx: context.WithoutCancel(ctx)}
	for _, endpoint := range s.endpoints(handlers) {
		handler := micro.HandlerFunc(func(request micro.Request) { s.handle(request, endpoint) })
		err := service.AddEndpoint(endpoint.name, handler, micro.WithEndpointSubject(endpoint.subject),
			micro.WithEndpointMetadata(map[string]string{"example": endpoint.example}))
		if err != nil {
			return nil, errors.Join(b.classify(start, "serve "+endpoint.subject, err), service.Stop())
		}
	}
	// Whoever is told that we serve must find it so.
	if err := b.Ready(ctx); err != nil {
		return nil, errors.Join(err, service.Stop())
	}
	return s, nil
}

// endpoint is one subject and what is done with a body that arrives there.
type endpoint struct {
	name, subject, example string
	answer                 func(context.Context, []byte) ([]byte, error)
}

func (s *Service) endpoints(h Handlers) []endpoint {
	const example = `{"v":1,"job":"00000000-0000-0000-0000-000000000000"}`
	return []endpoint{
		{"start", messages.SubjectStart, `{"v":1,"request_id":"any unique text","table":"users","columns":[{"source":"email"}]}`, onJob(messages.ParseStartRequest, h.Start)},
		{"get", messages.SubjectGet, example, onJob(messages.ParseJobRequest, h.Get)},
		{"list", messages.SubjectList, `{"v":1}`, onList(h.List)},
		{"pause", messages.SubjectPause, example, onJob(messages.ParseJobRequest, h.Pause)},
		{"resume", messages.SubjectResume, example, onJob(messages.ParseJobRequest, h.Resume)},
		{"cancel", messages.SubjectCancel, example, onJob(messages.ParseJobRequest, h.Cancel)},
		{"retry", messages.SubjectRetry, `{"v":1,"job":"00000000-0000-0000-0000-000000000000","quarantined":true}`, onJob(messages.ParseRetryRequest, h.Retry)},
	}
}

// onJob reads a request, lets the handler carry it out, and answers with the job.
func onJob[R any](parse func([]byte) (R, error), handler func(context.Context, R) (messages.Job, error)) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, body []byte) ([]byte, error) {
		request, err := parse(body)
		if err != nil {
			return nil, err
		}
		job, err := handler(ctx, request)
		if err != nil {
			return nil, err
		}
		return job.Marshal()
	}
}

func onList(handler func(context.Context) ([]messages.Job, error)) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, body []byte) ([]byte, error) {
		if _, err := messages.ParseListRequest(body); err != nil {
			return nil, err
		}
		jobs, err := handler(ctx)
		if err != nil {
			return nil, err
		}
		return messages.JobList{Jobs: jobs}.Marshal()
	}
}

// handle answers one request, whatever happens.
func (s *Service) handle(request micro.Request, e endpoint) {
	if !s.begin() {
		s.respond(request, nil, &messages.Problem{Code: messages.CodeBusy, Message: "this coordinator is stopping", Hint: "ask again"})
		return
	}
	defer s.running.Done()
	ctx, cancel := context.WithTimeout(extract(s.ctx, nats.Header(request.Headers())), requestTime)
	defer cancel()
	ctx, span := s.bus.tracer.Start(ctx, "process "+e.subject, trace.WithSpanKind(trace.SpanKindServer))
	body, err := e.answer(ctx, request.Data())
	if err != nil {
		s.bus.logger.WarnContext(ctx, "a request was not carried out", "subject", e.subject, "error", err)
	}
	s.respond(request, body, err)
	finish(span, err)
}

func (s *Service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.running.Add(1)
	return true
}

func (s *Service) respond(request micro.Request, body []byte, err error) {
	if err == nil {
		err = request.Respond(body)
	} else {
		problem := problemOf(err)
		err = request.Error(strconv.Itoa(problem.Status()), problem.Code, problem.Marshal())
	}
	if err != nil {
		s.bus.logger.Warn("an answer was not sent", "error", err)
	}
}

// Told is an error that has another text for who asks from elsewhere than for who has it at hand.
type Told interface {
	error
	Problem() *messages.Problem
}

// problemOf hides the text of errors that were not made for the requester.
func problemOf(err error) *messages.Problem {
	var problem *messages.Problem
	if errors.As(err, &problem) {
		return problem
	}
	var told Told
	if errors.As(err, &told) {
		return told.Problem()
	}
	return &messages.Problem{Code: messages.CodeInternal, Message: "the coordinator failed", Hint: "its log says why"}
}

// Stop takes no more requests and waits for those in hand to be answered.
func (s *Service) Stop() error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	err := s.micro.Stop()
	s.running.Wait()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("stop serving requests: %w", err)
	}
	return nil
}
