package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/messages"
)

// Start asks the coordinator to start a job, or for the job that this request has started before.
func (b *Bus) Start(ctx context.Context, request messages.StartRequest) (messages.Job, error) {
	body, err := request.Marshal()
	if err != nil {
		return messages.Job{}, err
	}
	return b.askForJob(ctx, messages.SubjectStart, messages.TypeStart, body)
}

// Job asks the coordinator how a job stands.
func (b *Bus) Job(ctx context.Context, request messages.JobRequest) (messages.Job, error) {
	return b.control(ctx, messages.SubjectGet, messages.TypeGet, request)
}

// Pause asks the coordinator to let a job's chunks in hand commit and to hand out no more.
func (b *Bus) Pause(ctx context.Context, request messages.JobRequest) (messages.Job, error) {
	return b.control(ctx, messages.SubjectPause, messages.TypePause, request)
}

// Resume asks the coordinator to go on with a paused job.
func (b *Bus) Resume(ctx context.Context, request messages.JobRequest) (messages.Job, error) {
	return b.control(ctx, messages.SubjectResume, messages.TypeResume, request)
}

// Cancel asks the coordinator to end a job and leave what is done as it is.
func (b *Bus) Cancel(ctx context.Context, request messages.JobRequest) (messages.Job, error) {
	return b.control(ctx, messages.SubjectCancel, messages.TypeCancel, request)
}

// Retry asks the coordinator to let a job that has ended go on with what it left aside.
func (b *Bus) Retry(ctx context.Context, request messages.RetryRequest) (messages.Job, error) {
	body, err := request.Marshal()
	if err != nil {
		return messages.Job{}, err
	}
	return b.askForJob(ctx, messages.SubjectRetry, messages.TypeRetry, body)
}

// Jobs asks the coordinator for all jobs, the newest first.
func (b *Bus) Jobs(ctx context.Context) ([]messages.Job, error) {
	body, err := messages.ListRequest{}.Marshal()
	if err != nil {
		return nil, err
	}
	reply, err := b.ask(ctx, messages.SubjectList, messages.TypeList, body)
	if err != nil {
		return nil, err
	}
	list, err := messages.ParseJobList(reply)
	return list.Jobs, err
}

func (b *Bus) control(ctx context.Context, subject, kind string, request messages.JobRequest) (messages.Job, error) {
	body, err := request.Marshal()
	if err != nil {
		return messages.Job{}, err
	}
	return b.askForJob(ctx, subject, kind, body)
}

func (b *Bus) askForJob(ctx context.Context, subject, kind string, body []byte) (messages.Job, error) {
	reply, err := b.ask(ctx, subject, kind, body)
	if err != nil {
		return messages.Job{}, err
	}
	return messages.ParseJob(reply)
}

// ask sends a request and waits for the answer as long as a handler may take, and a little.
func (b *Bus) ask(ctx context.Context, subject, kind string, body []byte) (_ []byte, err error) {
	start := time.Now()
	ctx, span := b.tracer.Start(ctx, "send "+subject, trace.WithSpanKind(trace.SpanKindClient))
	defer func() { finish(span, err) }()
	ctx, cancel := context.WithTimeout(ctx, requestTime+5*time.Second)
	defer cancel()
	ctx, forget := b.untilLost(ctx)
	defer forget()
	message := nats.NewMsg(subject)
	message.Data = body
	message.Header[messages.HeaderType] = []string{kind}
	inject(ctx, message.Header)
	ctx, release := b.denials.watch(ctx, subject)
	defer release()
	reply, err := b.nc.RequestMsgWithContext(ctx, message)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("ask %s: %w", subject, ErrNoCoordinator)
	}
	if err != nil {
		return nil, b.classify(start, "ask "+subject, whyEnded(ctx, err))
	}
	if code := reply.Header.Get(micro.ErrorCodeHeader); code != "" {
		return nil, refusal(code, reply)
	}
	return reply.Data, nil
}

// refusal reads the problem, or makes one of the header when another kind of service has answered.
func refusal(code string, reply *nats.Msg) *messages.Problem {
	if problem, err := messages.ParseProblem(reply.Data); err == nil {
		return problem
	}
	status, _ := strconv.Atoi(code)
	return &messages.Problem{Code: messages.CodeOf(status), Message: reply.Header.Get(micro.ErrorHeader)}
}
